"""Writing the frames of a scene to a file of its own, and single frames as pictures."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..imaging.files import write_photo
from ..imaging.metadata import Metadata, PhotoFile
from ..utils.atomic import whole_path
from .codecs import add_encoder, written_colors
from .colors import from_rgb
from .library import load_av
from .reading import REORDERED, VideoSource


# NUT keeps any unit of time exactly. Times are not to be moved, though B-frames are decoded before 0.
CHUNK_FORMAT = "nut"
CHUNK_OPTIONS = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}


class VideoWriter:
    """Writes frames to a chunk, which `join_chunks` puts together with others; used in a `with` block.

    The chunk has the depth, subsampling, colors, shape of pixels and unit of time of its source, begins with a frame that
    depends on no other, and is at `path` only when the block has ended well. The same frames give the same bytes.

    Args:
        path: of the chunk; its suffix does not matter.
        like: the source.
        size: height and width of the frames in pixels; `None` are those of the source. Odd ones see `choose_format`.
        codec: see `check_target`.
        crf: the same.

    Raises:
        ValueError: when the block ends, if no frame was written.
        OSError: writing failed.
    """

    def __init__(
        self,
        path: str | Path,
        like: VideoSource,
        size: tuple[int, int] | None = None,
        codec: str = "libx264",
        crf: float = 18,
    ) -> None:
        self._path, self._like, self._codec, self._crf = Path(path), like, codec, crf
        self._size = size or (like.height, like.width)
        self._colors = written_colors(like, self._size[0])
        self._written: list[int] = []  # when each frame is shown, in the source's unit of time
        self._stored = 0  # packets
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(whole_path(self._path))
            self._container: Any = stack.enter_context(
                load_av().open(f"file:{temporary}", "w", format=CHUNK_FORMAT, container_options=CHUNK_OPTIONS)
            )
            self._stream = add_encoder(self._container, self._like, self._size, self._codec, self._crf)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *problem: Any) -> None:
        if problem[0] is not None:
            self._stack.__exit__(*problem)
            return
        with self._stack:
            if not self._written:
                raise ValueError(f"No frame was written to {self._path}; a chunk holds one at least.")
            self._mux(self._stream.encode(None))

    def write(self, pixels: np.ndarray, time: Fraction) -> None:
        """Write a frame.

        Args:
            pixels: RGB `[H,W,3]` of the writer's size: uint8, or uint16 up to 65535.
            time: when it is shown, in seconds, later than those before.

        Raises:
            ValueError: the pixels are none of these, or the time is not later.
        """
        shape = (*self._size, 3)
        if pixels.shape != shape or pixels.dtype not in (np.uint8, np.uint16):
            received = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"`pixels` is {received}; accepted is uint8 or uint16 {list(shape)}.")
        pts = round(Fraction(time) / self._like.time_base)
        if self._written and pts <= self._written[-1]:
            raise ValueError(f"`time` is {time} s; it must be later than that of the frame before.")
        frame = from_rgb(pixels, self._stream.pix_fmt, self._colors)
        frame.pts, frame.time_base = pts, self._like.time_base
        self._written.append(pts)
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        """Store packets; when they are decoded is told here, as x265 makes that up for a scene of few frames."""
        for packet in packets:
            place = self._stored - REORDERED
            packet.dts = self._written[place] if place >= 0 else self._written[0] + place
            self._stored += 1
            self._container.mux(packet)


def frame_path(folder: Path, number: int) -> Path:
    """Return where the frame of a number, counted from 1, lies in a folder of frames."""
    return folder / f"{number:08d}.png"


def write_frame(folder: Path, number: int, pixels: np.ndarray) -> Path:
    """Write RGB `[H,W,3]` as a PNG of as many bits, 8 (uint8) or 16 (uint16), and return its path; see `frame_path`."""
    path = frame_path(folder, number)
    write_photo(PhotoFile(pixels, Metadata()), path)
    return path
