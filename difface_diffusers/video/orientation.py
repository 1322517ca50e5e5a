"""Which way up a video is: the display matrix that phones write instead of turning the picture."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """How a picture as it lies becomes upright: first rows for columns, then mirrored.

    Attributes:
        transposed: rows and columns change places.
        flipped: top and bottom change places after that.
        mirrored: left and right change places after that.
    """

    transposed: bool = False
    flipped: bool = False
    mirrored: bool = False

    def turn(self, pixels: np.ndarray) -> np.ndarray:
        """Turn `[H,W,C]` upright, into memory of its own order."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1])


def orientation_of(frame: Any) -> Orientation:
    """Return how a decoded frame becomes upright; angles between are taken for the nearest right one.

    The display matrix is (a, b, u, c, d, v, x, y, w): a point (x, y) is shown at (a x + c y, b x + d y), with y pointing down.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(a) >= abs(b):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)
