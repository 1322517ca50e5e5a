"""Enlarging a photograph tile by tile: bounded memory, and tiles that fade into each other.

*Convention*: pixel (row, column) covers the square from (row, column) to (row+1, column+1), so position p in the photograph
is position p * size / side in the result, and the corners of both pictures coincide.
"""

import itertools
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm


OnTile = Callable[[int, int], None]  # told how many tiles are done, and of how many; what it raises ends the run
SECONDS_BEFORE_BAR = 3  # a bar for what takes less would only flicker


@dataclass(frozen=True)
class Tiling:
    """How a photograph is cut, in its own pixels.

    Attributes:
        size: side of a tile.
        overlap: what the network sees beyond what it draws.
        fade: how far a tile is drawn into its neighbors; over twice as much they fade into each other.
        multiple: what the network sees begins at multiples of it.

    Raises:
        ValueError: `size` below 1, `overlap` below 0.
    """

    size: int
    overlap: int
    fade: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.overlap:
            raise ValueError(
                f"`tile_size` is {self.size} and `overlap` {self.overlap}; they must be at least 1 and 0."
            )


@dataclass(frozen=True)
class Interval:
    """One axis of a tile.

    Attributes:
        output: the pixels of the result that the tile has a share in.
        source: the pixels of the photograph that the network sees.
        start: where `output` begins, in pixels of `source`.
        stop: where it ends.
        weights: share of the tile in each of its pixels, float32; those of all tiles sum up to 1.
        finished: the first pixel that later tiles have a share in.
    """

    output: slice
    source: slice
    start: float
    stop: float
    weights: np.ndarray
    finished: int


def enlarge_in_tiles(
    photo: np.ndarray,
    size: tuple[int, int],
    scale: int,
    run: Callable[[np.ndarray], np.ndarray],
    tiling: Tiling,
    on_tile: OnTile | None = None,
) -> np.ndarray:
    """Enlarge a photograph by a network of a factor of its own; what it makes of a tile is resampled to the size asked for.

    In a terminal a bar shows how far it is, if it takes longer than a few seconds.

    Args:
        photo: `[H,W,3]`, uint8 or uint16.
        size: height and width of the result.
        scale: the network's factor.
        run: from a part of the photograph, `[h,w,3]` float32 in [0,1], to `[3,scale*h,scale*w]` float32, about [0,1].
        tiling: how the photograph is cut.
        on_tile: called after each tile instead of the bar.

    Returns:
        `[*size,3]` of the type of `photo`; a copy, without the network, where it has this size already.

    Raises:
        ValueError: see `check_request`.
    """
    check_request(photo, size)
    if photo.shape[:2] == tuple(size):
        return photo.copy()
    levels = np.iinfo(photo.dtype).max
    result = np.empty((*size, 3), photo.dtype)
    columns = cut(photo.shape[1], size[1], tiling)
    band = np.zeros((0, size[1], 3), np.float32)  # rows that are not finished, from `top` on
    top = 0
    rows = cut(photo.shape[0], size[0], tiling)
    with _progress(len(rows) * len(columns), on_tile) as advance:
        for row in rows:
            missing = row.output.stop - top - len(band)
            band = np.concatenate([band, np.zeros((missing, size[1], 3), np.float32)])
            for column in columns:
                enlarged = run(photo[row.source, column.source].astype(np.float32) / levels)
                box = (scale * column.start, scale * row.start, scale * column.stop, scale * row.stop)
                shape = (len(column.weights), len(row.weights))
                planes = [
                    np.asarray(Image.fromarray(plane).resize(shape, Image.Resampling.LANCZOS, box))
                    for plane in enlarged
                ]
                weights = row.weights[:, None, None] * column.weights[:, None]
                band[row.output.start - top :, column.output] += weights * np.stack(planes, axis=-1)
                advance()
            done = band[: row.finished - top]
            result[top : row.finished] = np.rint(done.clip(0, 1) * levels)
            band, top = band[len(done) :], row.finished
    return result


@contextmanager
def _progress(total: int, on_tile: OnTile | None) -> Generator[Callable[[], None]]:
    """Give a function that is to be called after every tile: it moves a bar, or tells `on_tile`."""
    if on_tile is None:
        with tqdm(
            total=total, desc="background", unit="tile", delay=SECONDS_BEFORE_BAR, leave=False, disable=None
        ) as bar:
            yield bar.update
    else:
        done = itertools.count(1)
        yield lambda: on_tile(next(done), total)


def cut(side: int, size: int, tiling: Tiling) -> list[Interval]:
    """Cut one axis, of `side` pixels that become `size`, into tiles of nearly equal length."""
    count = -(-side // tiling.size)
    edges = [size * number // count for number in range(count + 1)]
    shortest = min(last - first for first, last in itertools.pairwise(edges))
    fade = min(tiling.fade * size // side, shortest // 2)
    intervals = []
    for first, last in itertools.pairwise(edges):
        begin, end = max(0, first - fade), min(size, last + fade)
        low = max(0, math.floor(begin * side / size) - tiling.overlap) // tiling.multiple * tiling.multiple
        high = min(side, math.ceil(end * side / size) + tiling.overlap)
        places = np.arange(begin, end) + 0.5
        weights = np.ones(end - begin)
        if first > 0 and fade:
            weights = np.minimum(weights, (places - begin) / (2 * fade))
        if last < size and fade:
            weights = np.minimum(weights, (end - places) / (2 * fade))
        intervals.append(
            Interval(
                output=slice(begin, end),
                source=slice(low, high),
                start=begin * side / size - low,
                stop=end * side / size - low,
                weights=weights.astype(np.float32),
                finished=size if last == size else last - fade,
            )
        )
    return intervals


def check_request(photo: np.ndarray, size: tuple[int, int]) -> None:
    """Raise `ValueError` unless a photograph `[H,W,3]`, uint8 or uint16, can be enlarged to `size`."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0 or photo.dtype not in (np.uint8, np.uint16):
        shape = list(photo.shape)
        raise ValueError(
            f"`photo` is {photo.dtype} of shape {shape}; accepted is uint8 or uint16, [H,W,3], not empty."
        )
    if size[0] < photo.shape[0] or size[1] < photo.shape[1]:
        raise ValueError(f"`size` is {tuple(size)}; no side may be below the photo's {photo.shape[:2]}.")
