"""Chroma planes of fewer samples than luma: up by linear interpolation, and down by the filter that undoes it.

Samples of chroma lie on the first of the columns that share them and halfway between the rows, as H.264 and HEVC have it unless
they say otherwise. The filters that go down are the shortest that give back what linear interpolation was given (those of the
biorthogonal wavelets 5/3 and 3.1): a picture that nobody changes keeps its chroma, however often it is read and written.
"""

import cv2
import numpy as np


ONE = np.ones(1)
ACROSS = np.array([-1 / 8, 1 / 4, 3 / 4, 1 / 4, -1 / 8])  # from two columns left of the sample to two right
DOWN = np.array([-1 / 4, 3 / 4, 3 / 4, -1 / 4])  # from one row above the two to one below


def upsample(plane: np.ndarray, height: int, width: int, ratios: tuple[int, int]) -> np.ndarray:
    """Interpolate float32 `[ceil(height/a),ceil(width/b)]` to `[height,width]`; the ratios (a,b) are 1, 2 or 4."""
    if ratios == (1, 1):
        return plane
    down, across = ratios
    place = np.array([[1 / across, 0, 0], [0, 1 / down, (1 / down - 1) / 2]])  # of luma's samples among chroma's
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane, place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def downsample(plane: np.ndarray, ratios: tuple[int, int]) -> np.ndarray:
    """Filter float32 `[H,W]` to `[ceil(H/a),ceil(W/b)]`; the ratios (a,b) are 1 or 2."""
    down, across = ratios
    if down > 1:
        plane = cv2.sepFilter2D(plane, -1, ONE, DOWN, anchor=(0, 1), borderType=cv2.BORDER_REFLECT)[::2]
    if across > 1:
        plane = cv2.sepFilter2D(plane, -1, ACROSS, ONE, borderType=cv2.BORDER_REFLECT_101)[:, ::2]
    return plane
