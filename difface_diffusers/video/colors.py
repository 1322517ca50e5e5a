"""The colors of a video: from the planes that codecs know to RGB and back, by the stream's own matrix and range.

swscale, FFmpeg's own converter, is asked only to unpack: its colors are off by half a level on average for full range, by two
levels of ten bits, and wrong altogether for some combinations of ten bits, subsampling and flags.
"""

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .chroma import downsample, upsample
from .library import load_av


RGB, UNKNOWN = 0, 2  # code points of a matrix; `UNKNOWN` also one of primaries and of a transfer
BT709, BT601 = 1, 6
HD_LINES = 720  # from which players take unknown colors for those of BT.709
RANGES = {False: 1, True: 2}  # FFmpeg's numbers of limited and full range
PLAIN = re.compile(r"(?:yuvj?4\d\dp|gray)(?:\d+le)?")  # formats with a plane for each channel
LAYOUTS = {(1, 1): "444", (1, 2): "422", (2, 2): "420", (2, 1): "440", (1, 4): "411", (4, 4): "410"}
NOTHING = np.zeros(4)  # which OpenCV adds where it is to round and clip
DEPTHS = (8, 9, 10, 12, 14, 16)
# Shares of red and of blue in luma.
SHARES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),  # of constant luminance, which nobody writes; read as if it were not
}


@dataclass(frozen=True)
class Colors:
    """What the numbers of a stream mean, in code points of ITU-T H.273.

    Attributes:
        matrix: between YUV and RGB, a key of `SHARES`; 0 if the stream holds RGB.
        full_range: black is 0 and white the highest number, instead of 16 and 235 of 255.
        primaries: 2 if unknown.
        transfer: 2 if unknown.
    """

    matrix: int
    full_range: bool
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN


def guess_matrix(height: int) -> int:
    """Return the matrix that players take for a stream of unknown colors, by its lines: BT.601 below 720, else BT.709."""
    return BT601 if height < HD_LINES else BT709


def colors_of(frame: Any) -> Colors:
    """Return the colors of a decoded frame; what it does not tell is filled in as players do.

    A matrix without defined shares of luma (YCgCo, ICtCp) counts as unknown.
    """
    name = frame.format.name
    if _is_rgb(frame.format):
        return Colors(RGB, True, frame.color_primaries, frame.color_trc)
    matrix = frame.colorspace if frame.colorspace in SHARES else guess_matrix(frame.height)
    unknown_is_full = name.startswith(("yuvj", "gray", "ya", "mono"))
    full_range = unknown_is_full if frame.color_range not in RANGES.values() else frame.color_range == RANGES[True]
    return Colors(matrix, full_range, frame.color_primaries, frame.color_trc)


def bit_depth_of(pixel_format: Any) -> int:
    """Return the bits of a format's levels, from 8 to 16; those of floats count as 16."""
    if pixel_format.has_palette:
        return 8
    return min(max(8, *(component.bits for component in pixel_format.components)), 16)


def ratios_of(pixel_format: Any) -> tuple[int, int]:
    """Return how many rows and how many columns of luma share a sample of chroma."""
    return 16 // pixel_format.chroma_height(16), 16 // pixel_format.chroma_width(16)


def to_rgb(frame: Any, colors: Colors) -> np.ndarray:
    """Convert a decoded frame to RGB `[H,W,3]` as it lies: uint8, or uint16 up to 65535 for more than 8 bits."""
    deep = bit_depth_of(frame.format) > 8
    dtype = np.uint16 if deep else np.uint8
    if _is_rgb(frame.format):
        return _unpack_rgb(frame, deep)
    plain = _plain(frame, colors)
    bits = bit_depth_of(plain.format)
    planes = [_samples(plane, bits).astype(np.float32) for plane in plain.planes]
    size = (plain.height, plain.width)
    if len(planes) == 1:
        planes += [np.full(size, 2 ** (bits - 1), np.float32)] * 2
    planes[1:] = [upsample(plane, *size, ratios_of(plain.format)) for plane in planes[1:]]
    matrix, offsets = _yuv_matrix(colors, bits)
    inverse = np.linalg.inv(matrix) * np.iinfo(dtype).max
    return _transform(cv2.merge(planes), inverse, -inverse @ offsets, dtype)


def from_rgb(pixels: np.ndarray, pixel_format: str, colors: Colors) -> Any:
    """Convert RGB `[H,W,3]`, uint8 or uint16, to a frame for an encoder.

    Args:
        pixels: the picture.
        pixel_format: one with a plane each for luma and twice for chroma, of which 1 or 2 rows and columns share a sample.
        colors: their matrix must be one of YUV.
    """
    av = load_av()
    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    bits = bit_depth_of(frame.format)
    matrix, offsets = _yuv_matrix(colors, bits)
    planes = cv2.split(cv2.transform(pixels.astype(np.float32), _affine(matrix / np.iinfo(pixels.dtype).max, offsets)))
    ratios = ratios_of(frame.format)
    planes = [planes[0], *(downsample(plane, ratios) for plane in planes[1:])]
    for plane, levels in zip(frame.planes, planes, strict=True):
        _samples(plane, bits)[:] = np.clip(np.rint(levels), 0, 2**bits - 1)
    return frame


def _yuv_matrix(colors: Colors, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what takes RGB in [0,1] to the levels of YUV: a matrix [3,3] and offsets [3]."""
    red, blue = SHARES[colors.matrix]
    luma = np.array([red, 1 - red - blue, blue])
    matrix = np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)])
    step, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    if colors.full_range:
        return matrix * (2**bits - 1), np.array([0, middle, middle])
    return matrix * np.array([[219], [224], [224]]) * step, np.array([16 * step, middle, middle])


def _affine(matrix: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.hstack([matrix, offsets[:, None]])


def _transform(picture: np.ndarray, matrix: np.ndarray, offsets: np.ndarray, dtype: type) -> np.ndarray:
    levels = cv2.transform(picture, _affine(matrix, offsets))
    return cv2.add(levels, NOTHING, dtype=cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U)


def _is_rgb(pixel_format: Any) -> bool:
    return pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith("xyz")


def _unpack_rgb(frame: Any, deep: bool) -> np.ndarray:
    return frame.reformat(format="rgb48le" if deep else "rgb24").to_ndarray()


def _plain(frame: Any, colors: Colors) -> Any:
    """Return the frame with a plane for each channel and without alpha."""
    pixel_format = frame.format
    if PLAIN.fullmatch(pixel_format.name):
        return frame
    depth = next(depth for depth in DEPTHS if depth >= bit_depth_of(pixel_format))
    channels = sum(not component.is_alpha for component in pixel_format.components)
    name = "gray" if channels == 1 else f"yuv{LAYOUTS[ratios_of(pixel_format)]}p"
    values = RANGES[colors.full_range]
    return frame.reformat(
        format=name if depth == 8 else f"{name}{depth}le", src_color_range=values, dst_color_range=values
    )


def _samples(plane: Any, bits: int) -> np.ndarray:
    """Return a plane's memory as an array [h,w]."""
    dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, : plane.width]
