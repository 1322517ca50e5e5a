"""Reading videos: what a file holds, and its frames one by one, upright, in RGB and at their true times."""

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

import numpy as np

from ..utils.warning import warn_user
from .colors import Colors, bit_depth_of, colors_of, to_rgb
from .decoding import ACCEPTED, UNTIMED, decode, open_container, video_stream
from .library import load_av
from .orientation import Orientation, orientation_of


# Containers that store when each frame is shown. Others (AVI, raw streams) are read from their beginning, unless their frames
# do not depend on each other: what FFmpeg guesses of their times depends on where it began.
TIMED = ("mov", "matroska", "webm", "mpegts", "nut", "flv", "asf", "ogg")
REORDERED = 16  # frames that a codec may hold back at most; a decoder does not know how many right after a jump
MICROSECOND = Fraction(1, 1_000_000)
FARTHER = (10, 60)  # seconds to jump back where a container finds its places badly
CUT_SHORT = Fraction(1, 2)  # seconds that may be missing at the end
DEFAULT_RATE = Fraction(25)  # frames per second of a stream that does not tell


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Attributes:
        index: its number in the iteration that gave it, from 0.
        time: when it is shown, in seconds after the file's beginning.
        pts: the same as the file has it, in its `time_base`; guessed where it has none, and always growing.
        pixels: RGB `[H,W,3]`, upright: uint8, or uint16 up to 65535 if the source has more than 8 bits.
    """

    index: int
    time: Fraction
    pts: int
    pixels: np.ndarray


@dataclass(frozen=True)
class VideoSource:
    """What a file of a video holds; leaving its `with` block ends the iterations that still run.

    Attributes:
        path: of the file.
        height: of its upright frames, in pixels.
        width: the same.
        frame_count: as the file tells it, `None` if it does not; damaged files hold fewer.
        average_rate: frames per second.
        time_base: the unit of `pts`, in seconds.
        start: the file's beginning on its own clock, in seconds: that of its first picture or sound, 0 if that is earlier.
        duration: from the beginning to the end of the last frame, in seconds, as the file tells it; `None` if it does not.
        bit_depth: bits of a level, from 8 to 16.
        pixel_format: FFmpeg's name of how the decoder stores a frame.
        colors: what its levels mean.
        sample_aspect_ratio: width of an upright pixel by its height.
        orientation: how frames are turned upright.
        interlaced: its first frame holds two fields; they are given as one picture.
        has_audio: there is a sound track.
        has_subtitles: there are subtitles.
        has_chapters: there are chapters.
        metadata: title and the like.
    """

    path: Path
    height: int
    width: int
    frame_count: int | None
    average_rate: Fraction
    time_base: Fraction
    start: Fraction
    duration: Fraction | None
    bit_depth: int
    pixel_format: str
    colors: Colors
    sample_aspect_ratio: Fraction
    orientation: Orientation
    interlaced: bool
    has_audio: bool
    has_subtitles: bool
    has_chapters: bool
    metadata: Mapping[str, str]
    _readers: WeakSet = field(default_factory=WeakSet, repr=False, compare=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for reader in list(self._readers):
            reader.close()

    def frames(self, start: float | Fraction | None = None, stop: float | Fraction | None = None) -> "FrameReader":
        """Iterate over the frames in the order in which they are shown, each time over an opened file of its own.

        Only a few frames are in memory at a time. Floats are taken for the nearest fraction up to millionths.

        Args:
            start: the first frame is the first at or after this time, in seconds; `None` is the beginning.
            stop: the first time that no longer belongs to them; `None` is the end.

        Raises:
            OSError: from the iteration, if the file is gone or no longer a video.
        """
        reader = FrameReader(self, in_seconds(start), in_seconds(stop))
        self._readers.add(reader)
        return reader


class FrameReader(Iterator[VideoFrame]):
    """The frames of a part of a video, see `VideoSource.frames`.

    What is damaged is left out, with a warning at the end, and one if the file ends before its time.
    """

    def __init__(self, source: VideoSource, start: Fraction | None, stop: Fraction | None) -> None:
        self._damage = _Damage()
        self._frames = _read(source, start, stop, self._damage)

    @property
    def skipped(self) -> int:
        """How many packets, or places in the file, could not be decoded so far."""
        return self._damage.count

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()


class _Damage:
    """Counts what was left out; apart from the reader, which would keep its file open until the garbage is collected."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def _read(
    source: VideoSource, start: Fraction | None, stop: Fraction | None, damage: _Damage
) -> Generator[VideoFrame]:
    index, last, end = 0, None, Fraction(0)
    for frame in _decoded(source, start, damage):
        last = _pts_after(last, frame.pts, source)
        time = last * source.time_base - source.start
        if stop is not None and time >= stop:
            break
        end = time + ((frame.duration or 0) * source.time_base or 1 / source.average_rate)
        if start is None or time >= start:
            yield VideoFrame(index, time, last, _pixels(frame, source))
            index += 1
    else:
        _warn_if_cut_short(source, end)
    if damage.count:
        warn_user(f"{source.path}: {damage.count} damaged packets were left out.")


def _decoded(source: VideoSource, start: Fraction | None, damage: _Damage) -> Generator[Any]:
    """Yield frames as PyAV has them, from one at or before the start on."""
    if start is not None:
        with open_container(source.path) as container:
            frames = _sought(container, source, start, damage)
            if frames is not None:
                yield from frames
                return
    damage.count = 0
    with open_container(source.path) as container:
        yield from decode(container, video_stream(container, source.path), damage)


def _sought(container: Any, source: VideoSource, start: Fraction, damage: _Damage) -> Iterator[Any] | None:
    """Jump to a frame at or before the start and return those from there on; `None` if that cannot be done reliably."""
    stream = video_stream(container, source.path)
    names = container.format.name.split(",")
    if not stream.codec_context.codec.intra_only and not any(name in TIMED for name in names):
        return None
    pts = int((start + source.start) / source.time_base)
    for margin in (REORDERED / source.average_rate, *FARTHER):
        place = pts - int(margin / source.time_base)
        if place <= (stream.start_time or 0):
            return None
        try:
            container.seek(place, stream=stream)
        except load_av().error.FFmpegError:
            return None
        damage.count = 0
        frames = decode(container, stream, damage)
        found = next(frames, None)
        if found is not None and found.pts is not None and found.pts <= pts:
            return chain([found], frames)
    return None


def _warn_if_cut_short(source: VideoSource, end: Fraction) -> None:
    missing = (source.duration or 0) - end
    if missing > CUT_SHORT + 2 / source.average_rate:
        promised = f"the {float(source.duration or 0):.1f} s that its header tells of"
        warn_user(f"{source.path} ends {float(missing):.1f} s before {promised}; it may be cut short.")


def in_seconds(time: float | Fraction | None) -> Fraction | None:
    """Return a time as a fraction; floats are taken for the nearest one up to millionths."""
    if time is None:
        return None
    return Fraction(time).limit_denominator(1_000_000) if isinstance(time, float) else Fraction(time)


def _pts_after(last: int | None, pts: int | None, source: VideoSource) -> int:
    """Return a frame's pts, or one that grows where there is none or a lesser one."""
    if last is None:
        return round(source.start / source.time_base) if pts is None else pts
    if pts is None or pts <= last:
        return last + max(1, round(1 / (source.average_rate * source.time_base)))
    return pts


def _pixels(frame: Any, source: VideoSource) -> np.ndarray:
    lying = (source.width, source.height) if source.orientation.transposed else (source.height, source.width)
    if (frame.height, frame.width, frame.format.name) != (*lying, source.pixel_format):  # changed on the way
        frame = frame.reformat(height=lying[0], width=lying[1], format=source.pixel_format)
    return source.orientation.turn(to_rgb(frame, source.colors))


def open_video(path: str | Path) -> VideoSource:
    """Look into a file of any container and codec that FFmpeg can decode.

    Returns:
        What it holds; `frames` reads it.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, holds no video, or none of its frames can be decoded; the message says which.
        ImportError: the extra `video` is missing.
    """
    path = Path(path)
    with open_container(path) as container:
        stream = video_stream(container, path)
        frame = next(decode(container, stream, lambda: None), None)
        if frame is None:
            raise OSError(f"`source` is {path}, of which no frame can be decoded; {ACCEPTED}.")
        orientation = orientation_of(frame)
        size = (frame.width, frame.height) if orientation.transposed else (frame.height, frame.width)
        shape = Fraction(stream.sample_aspect_ratio or 1)
        start = _start_of(container, stream, frame)
        return VideoSource(
            path=path,
            height=size[0],
            width=size[1],
            frame_count=stream.frames or None,
            average_rate=stream.average_rate or stream.guessed_rate or DEFAULT_RATE,
            time_base=stream.time_base,
            start=start,
            duration=_duration_of(container, stream, start),
            bit_depth=bit_depth_of(frame.format),
            pixel_format=frame.format.name,
            colors=colors_of(frame),
            sample_aspect_ratio=Fraction(1) / shape if orientation.transposed else shape,
            orientation=orientation,
            interlaced=frame.interlaced_frame,
            has_audio=bool(container.streams.audio),
            has_subtitles=bool(container.streams.subtitles),
            has_chapters=bool(container.chapters()),
            metadata=dict(container.metadata),
        )


def _start_of(container: Any, stream: Any, frame: Any) -> Fraction:
    """Return the time of the first picture or sound; sound before 0 is what decoders swallow, and does not count."""
    pts = frame.pts if frame.pts is not None else stream.start_time or 0
    picture = pts * stream.time_base
    sounds = [other.start_time * other.time_base for other in container.streams.audio if other.start_time is not None]
    return min([picture, *(max(sound, Fraction(0)) for sound in sounds)])


def _duration_of(container: Any, stream: Any, start: Fraction) -> Fraction | None:
    if container.format.name in UNTIMED and stream.frames:
        return stream.frames * stream.time_base
    if stream.duration is not None:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base - start
    if noted := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", "")):  # in MKV
        return int(noted[1]) * 3600 + int(noted[2]) * 60 + Fraction(noted[3]) - start
    if container.duration is not None:
        return container.duration * MICROSECOND
    return None
