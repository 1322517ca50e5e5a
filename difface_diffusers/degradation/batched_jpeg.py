"""The JPEG round trip of whole batches, each face with its own size and quality. Pure functions of tensors on any device.

What libjpeg does with its default settings, which are OpenCV's and Pillow's: chroma at half the resolution, the tables of
ITU-T T.81, annex K, and a triangle filter to bring the chroma back; see `roundtrip`.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from ..imaging.pixels import LUMA
from .batched_filters import pick_columns, pick_rows


BLOCK = 8  # side of what is transformed together

LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


class JpegTables(NamedTuple):
    """What a round trip needs beside the images.

    Attributes:
        luma: quantization steps at quality 50 of the 64 frequencies of a block, row by row.
        chroma: the same of the two chromas.
        transform: orthonormal cosine transform `[64,64]` of the pixels of a block, row by row.
    """

    luma: torch.Tensor
    chroma: torch.Tensor
    transform: torch.Tensor


def jpeg_tables(device: torch.device) -> JpegTables:
    """Return the tables on a device."""
    places = np.arange(BLOCK)
    rows = np.cos(np.pi / BLOCK * (places + 0.5) * places[:, None]) * np.where(places, 1, math.sqrt(0.5))[:, None] / 2
    tables = np.ravel(LUMA_STEPS), np.ravel(CHROMA_STEPS), np.kron(rows, rows)
    return JpegTables(*(torch.from_numpy(table).to(device, torch.float32) for table in tables))


def roundtrip(levels: torch.Tensor, sizes: torch.Tensor, quality: torch.Tensor, tables: JpegTables) -> torch.Tensor:
    """Compress and decompress the upper left square of every image.

    The answer is libjpeg's but for coefficients between two steps that its integer arithmetic rounds to the other one: the mean
    absolute difference is about 0.2 levels on noisy faces, and up to 4 on one of few pixels, which is a single block.

    Args:
        levels: `[B,3,P,P]`, RGB, float32, whole numbers from 0 to 255; P a multiple of 16.
        sizes: int64 `[B]`, sides of the squares, 1 .. P; the rest of an image does not matter.
        quality: int64 `[B]`, 1 to 100.
        tables: on the same device.

    Returns:
        `[B,3,P,P]`, such levels; what is outside the squares means nothing.
    """
    last = sizes[:, None] - 1
    half = (sizes[:, None] + 1) // 2  # side of the chroma
    places = torch.arange(levels.shape[-1], device=levels.device)
    inside = torch.minimum(places, last)
    # Blocks that stick out repeat the last column of pixels and the last row of luma, but the last row of halved chroma.
    inside_pairs = torch.minimum(2 * torch.minimum(places // 2, half - 1) + places % 2, last)
    ycc = pick_columns(to_ycc(levels), inside)
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None]
    luma, chroma = pick_rows(ycc[:, :1], inside), halve(pick_rows(ycc[:, 1:], inside_pairs))
    luma = coarsen(luma, scaled(tables.luma, scale), tables.transform)
    chroma = coarsen(chroma, scaled(tables.chroma, scale), tables.transform)
    return to_rgb(luma, double(chroma, half))


def to_ycc(levels: torch.Tensor) -> torch.Tensor:
    """Return the rounded luma and two chromas, `[B,3,H,W]`, around 0 to 255, of RGB levels of that shape."""
    red, green, blue = levels.unbind(1)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    blueness = (blue - luma) / 1.772 + 128
    redness = (red - luma) / 1.402 + 128
    return torch.stack([luma, blueness, redness], dim=1).round()


def to_rgb(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Undo `to_ycc`: from `[B,1,H,W]` and `[B,2,H,W]` to `[B,3,H,W]`, rounded levels from 0 to 255."""
    blueness, redness = (chroma - 128).unbind(1)
    luma = luma[:, 0]
    green = luma - (LUMA[0] * 1.402 * redness + LUMA[2] * 1.772 * blueness) / LUMA[1]
    return torch.stack([luma + 1.402 * redness, green, luma + 1.772 * blueness], dim=1).round().clamp(0, 255)


def halve(chroma: torch.Tensor) -> torch.Tensor:
    """Return the mean of every 2 x 2 pixels, halves rounded down and up in turn along a row."""
    total = 4 * torch.nn.functional.avg_pool2d(chroma, 2)
    bias = 1 + torch.arange(total.shape[-1], device=total.device) % 2
    return ((total + bias) / 4).floor()


def double(chroma: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Double the resolution, a new pixel being three quarters of the nearest and one of the next on its side, each way.

    Args:
        chroma: `[B,C,P,P]`, whole numbers.
        half: int64 `[B,1]`, sides of the squares in their upper left that mean anything; one of 2 or less is just repeated.

    Returns:
        `[B,C,2*P,2*P]`, whole numbers.
    """
    places = torch.arange(2 * chroma.shape[-1], device=chroma.device)
    near = (places // 2).expand(len(chroma), -1)
    beside = torch.minimum((near + 2 * (places % 2) - 1).clamp(min=0), half - 1)
    next_one = torch.where(half > 2, beside, near)
    tall = 3 * pick_rows(chroma, near) + pick_rows(chroma, next_one)
    return ((3 * pick_columns(tall, near) + pick_columns(tall, next_one) + 8 - places % 2) / 16).floor()


def scaled(steps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return quantization steps, `[64]`, in each of the scales, int64 `[B,1]` in percent: `[B,64]`."""
    return ((steps * scale + 50) / 100).floor().clamp(1, 255)


def coarsen(plane: torch.Tensor, steps: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
    """Quantize the cosine transform of every 8 x 8 block.

    Args:
        plane: `[B,C,P,P]`, from 0 to 255; P a multiple of 8.
        steps: `[B,64]`, by the frequencies of a block, row by row.
        transform: of `JpegTables`.

    Returns:
        What the quantized transform stands for, same shape, rounded and from 0 to 255.
    """
    batch, channels, side, _ = plane.shape
    count = side // BLOCK
    blocks = plane.view(batch, channels, count, BLOCK, count, BLOCK).transpose(3, 4).reshape(batch, -1, BLOCK**2)
    steps = steps[:, None]
    eighths = ((blocks - 128) @ (8 * transform.T)).round()
    quantized = ((eighths.abs() / (8 * steps) + 0.5).floor() * steps).copysign(eighths)
    levels = (quantized @ transform + 128).round().clamp(0, 255)
    return levels.view(batch, channels, count, count, BLOCK, BLOCK).transpose(3, 4).reshape(plane.shape)
