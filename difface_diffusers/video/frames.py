"""The frames of a video that are to be restored, numbered, at the rate and in the part of it that was asked for."""

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..utils.checks import check_number
from .reading import VideoSource, in_seconds


@dataclass(frozen=True)
class Selected:
    """Which frames of a video.

    Attributes:
        source: the video.
        start: time of the first, seconds; `None` is the beginning.
        stop: the first time that no longer belongs to them; `None` is the end.
        rate: frames a second, by leaving some out or showing some again; `None` takes them as they are.
    """

    source: VideoSource
    start: Fraction | None
    stop: Fraction | None
    rate: Fraction | None

    @property
    def expected_count(self) -> int | None:
        """About how many they are, by what the file tells; `None` if it does not."""
        end = self.source.duration if self.stop is None else self.stop
        rate = self.rate or self.source.average_rate
        return None if end is None else round((end - (self.start or 0)) * rate)

    def __iter__(self) -> Generator[tuple[Fraction, Fraction, np.ndarray], None, None]:
        """Yield all: when each is shown, when the source shows it, and its pixels `[H,W,3]`."""
        if self.rate is None:
            for frame in self.source.frames(self.start, self.stop):
                yield frame.time, frame.time, frame.pixels
            return
        begin, tick, held = self.start, 0, None
        for frame in self.source.frames(self.start, self.stop):
            begin = frame.time if begin is None else begin
            while held is not None and begin + tick / self.rate < frame.time:
                yield begin + tick / self.rate, held.time, held.pixels
                tick += 1
            held = frame
        end = self.stop or self.source.duration
        while held is not None and begin is not None:
            shown = begin + tick / self.rate
            if shown > held.time and (end is None or shown >= end):
                return
            yield shown, held.time, held.pixels
            tick += 1

    def again(
        self, first: int, stop: int, source_times: list[Fraction]
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """Yield number and pixels of the frames `first` .. `stop`, whose times in the source are known."""
        if first >= stop:
            return
        frames = self.source.frames(source_times[first])
        frame = next(frames)
        for number in range(first, stop):
            while frame.time < source_times[number]:
                frame = next(frames)
            yield number, frame.pixels
        frames.close()


def select_frames(
    source: VideoSource,
    start: float | Fraction | None,
    stop: float | Fraction | None,
    fps: float | Fraction | None,
) -> Selected:
    """Return the frames of a video that are asked for; see `restore_video`.

    Raises:
        ValueError: an argument is out of range, or contradicts another.
    """
    for name, value in {"start": start, "stop": stop}.items():
        if value is not None:
            check_number(name, float(value), 0)
    begin, end = in_seconds(start), in_seconds(stop)
    if source.duration is not None and begin is not None and begin >= source.duration:
        raise ValueError(f"`start` is {start}; {source.path} has {float(source.duration):.3f} seconds.")
    if end is not None and end <= (begin or 0):
        raise ValueError(f"`stop` is {stop}; it must be above `start`, {start or 0}.")
    if fps is not None:
        check_number("fps", float(fps), 0.1, 240)
    return Selected(source, begin, end, in_seconds(fps))
