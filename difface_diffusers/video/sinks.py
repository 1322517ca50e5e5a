"""Where the restored frames of a video go until it is whole: chunks to be joined, or pictures of their own."""

import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from .joining import join_chunks
from .reading import VideoSource
from .settings import VideoSettings
from .writing import VideoWriter, frame_path, write_frame


CHUNK_FRAMES = 100  # that are lost at most when everything stops at once
CHUNK = re.compile(r"chunk-(\d{8})-(\d{8})\.nut")


class Sink(Protocol):
    """Takes frames that follow each other, and knows what it has of former runs."""

    def done_until(self, first: int, stop: int) -> int:
        """Return the first frame of `first` .. `stop` that is missing, as far as they have been written in order."""
        ...

    def write(self, frames: Iterable[tuple[int, Fraction, np.ndarray]]) -> None:
        """Write frames: number, time in seconds, and pixels `[H,W,3]`. What is done stays where a user stops it."""
        ...

    def finish(self, start: Fraction | None, stop: Fraction | None) -> None:
        """Make of all that was written what was asked for; see `join_chunks`."""
        ...


class ChunkSink:
    """Writes chunks into a folder beside the target, and joins them to a video.

    Args:
        target: the video.
        folder: of the chunks.
        source: what is restored.
        size: height and width of the frames.
        settings: of the call.
    """

    def __init__(
        self, target: Path, folder: Path, source: VideoSource, size: tuple[int, int], settings: VideoSettings
    ) -> None:
        self._target, self._folder, self._source, self._size = target, folder, source, size
        self._settings = settings

    def done_until(self, first: int, stop: int) -> int:
        """See `Sink`."""
        for begin, end, _ in self._chunks():
            if begin == first < stop:
                first = end
        return first

    def write(self, frames: Iterable[tuple[int, Fraction, np.ndarray]]) -> None:
        """See `Sink`."""
        frames = iter(frames)
        for first, time, pixels in frames:
            self._write_chunk(first, time, pixels, frames)

    def _write_chunk(
        self, first: int, time: Fraction, pixels: np.ndarray, frames: Iterable[tuple[int, Fraction, np.ndarray]]
    ) -> None:
        """Write a chunk that begins with a frame, and take the rest of it from `frames`."""
        chunk, stop = self._folder / f"chunk-{first:08d}.nut", first
        stopped: KeyboardInterrupt | None = None
        with VideoWriter(chunk, self._source, self._size, self._settings.codec, self._settings.crf) as writer:
            writer.write(pixels, time)
            stop = first + 1
            try:
                for number, time, pixels in frames:
                    writer.write(pixels, time)
                    stop = number + 1
                    if stop - first == CHUNK_FRAMES:
                        break
            except KeyboardInterrupt as error:  # what is there by now is worth keeping
                stopped = error
        chunk.replace(self._folder / f"chunk-{first:08d}-{stop:08d}.nut")
        if stopped is not None:
            raise stopped

    def finish(self, start: Fraction | None, stop: Fraction | None) -> None:
        """See `Sink`."""
        join_chunks([path for _, _, path in self._chunks()], self._source, self._target, start, stop)

    def _chunks(self) -> list[tuple[int, int, Path]]:
        """Return first frame, the one after the last, and file of each chunk that is there, in order."""
        found = [(CHUNK.fullmatch(path.name), path) for path in self._folder.iterdir()]
        return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)


class FolderSink:
    """Writes every frame as a PNG; see `frame_path`.

    Args:
        folder: of the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def done_until(self, first: int, stop: int) -> int:
        """See `Sink`."""
        while first < stop and frame_path(self._folder, first + 1).exists():
            first += 1
        return first

    def write(self, frames: Iterable[tuple[int, Fraction, np.ndarray]]) -> None:
        """See `Sink`."""
        for number, _, pixels in frames:
            write_frame(self._folder, number + 1, pixels)

    def finish(self, start: Fraction | None, stop: Fraction | None) -> None:
        """See `Sink`; the pictures are there."""
