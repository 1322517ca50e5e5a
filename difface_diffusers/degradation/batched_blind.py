"""The blind degradation of `degradation.py`, and its halftone print, for whole batches on any device.

Faces are `[B,3,S,S]`, RGB, float32 in [0,1]. What happens to them is drawn on the CPU, where it costs next to nothing, so that
the sizes which the faces are shrunk to are known without waiting for the device: faces of about the same size go on together.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .batched_filters import convolve, gaussian_kernels, resize, send
from .batched_jpeg import JpegTables, roundtrip
from .blind import (
    KERNEL_RADIUS,
    REFERENCE_SIZE,
    SCREEN_ANGLES,
    SCREEN_OVERSAMPLING,
    DegradationRanges,
    relative_downscale,
)


CANVASES = (48, 80)  # sides, and on by doubling: faces of 2^n pixels that are enlarged by 1 / 0.8 just fit on theirs


@dataclass(frozen=True)
class Degradations:
    """What happens to each face of a batch, in the pixels of this face; all `[B]`, see `Degradation`.

    Attributes:
        sigma_x: of the blur along its first axis, float64.
        sigma_y: along its second axis, float64.
        angle: of the first axis, float64.
        size: side that the face is shrunk to, int64.
        noise_sigma: float64.
        jpeg_quality: int64.
        halftone_pitch: float64; 0 where there is no print.
        halftone_angle: float64.
    """

    sigma_x: np.ndarray
    sigma_y: np.ndarray
    angle: np.ndarray
    size: np.ndarray
    noise_sigma: np.ndarray
    jpeg_quality: np.ndarray
    halftone_pitch: np.ndarray
    halftone_angle: np.ndarray


def draw_degradations(ranges: DegradationRanges, size: int, count: int, rng: np.random.Generator) -> Degradations:
    """Draw what happens to `count` faces of `size` x `size` pixels, each as `draw_degradation` draws it."""
    mild = rng.random(count) < ranges.mild_probability
    share = np.where(mild, rng.random(count), 1.0)
    relative_size = size / REFERENCE_SIZE
    low, high = (sigma * relative_size for sigma in ranges.blur_sigma)
    high = low + share * (high - low)
    sigma_x, other_sigma = (rng.uniform(low, high) for _ in range(2))
    turned = rng.random(count) < 0.5
    least, most = ranges.downscale
    worst = np.vectorize(relative_downscale, otypes=[float])(least + share * (most - least), relative_size)
    downscale = rng.uniform(relative_downscale(least, relative_size), worst)
    low, high = ranges.noise_sigma
    noise_sigma = rng.uniform(low, low + share * (high - low))
    low, high = ranges.jpeg_quality
    quality = rng.uniform(high - share * (high - low), high)
    printed = rng.random(count) < ranges.halftone_probability
    return Degradations(
        sigma_x=sigma_x,
        sigma_y=np.where(turned, other_sigma, sigma_x),
        angle=np.where(turned, rng.uniform(-np.pi, np.pi, count), 0.0),
        size=np.maximum(1, (size / downscale).astype(np.int64)),
        noise_sigma=noise_sigma,
        jpeg_quality=quality.astype(np.int64),
        halftone_pitch=np.where(printed, rng.uniform(*ranges.halftone_pitch, count) * relative_size, 0.0),
        halftone_angle=np.where(printed, rng.uniform(0, np.pi / 2, count), 0.0),
    )


def apply_degradations(
    faces: torch.Tensor, degradations: Degradations, generator: torch.Generator, tables: JpegTables
) -> torch.Tensor:
    """Degrade faces as `apply_degradation` does: print, blur, shrink, noise, JPEG, back to size, 8-bit rounding.

    Args:
        faces: clean ones.
        degradations: what happens to them.
        generator: draws the noise, on the device of the faces.
        tables: on the same device.

    Returns:
        The degraded faces, on the 8-bit levels k/255.
    """
    device, side = faces.device, faces.shape[-1]
    faces = print_some(faces, degradations)
    sigma_x, sigma_y, angle = (
        send(values, device) for values in (degradations.sigma_x, degradations.sigma_y, degradations.angle)
    )
    radius = max(3, round(KERNEL_RADIUS * side / REFERENCE_SIZE))
    blurred = convolve(faces, gaussian_kernels(radius, sigma_x, sigma_y, angle))
    order, answers = [], []
    for canvas, members in by_canvas(degradations.size):
        noise = torch.randn((len(members), 3, canvas, canvas), generator=generator, device=device)
        sizes, sigma, quality = (
            send(values[members], device)
            for values in (degradations.size, degradations.noise_sigma, degradations.jpeg_quality)
        )
        answers.append(compress_small(blurred[send(members, device)], sizes, noise, sigma, quality, tables))
        order.append(members)
    return torch.cat(answers)[send(np.argsort(np.concatenate(order)), device)]


def by_canvas(sizes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return the numbers of the faces, int64, by the side of the smallest canvas that holds them."""
    canvases = list(CANVASES)
    while canvases[-1] < sizes.max():
        canvases.append(2 * canvases[-1])
    places = np.searchsorted(canvases, sizes)
    return [(canvases[place], np.flatnonzero(places == place)) for place in np.unique(places)]


def compress_small(
    blurred: torch.Tensor,
    sizes: torch.Tensor,
    noise: torch.Tensor,
    noise_sigma: torch.Tensor,
    quality: torch.Tensor,
    tables: JpegTables,
) -> torch.Tensor:
    """Shrink, add noise, pass through a JPEG, and go back to the size.

    Args:
        blurred: faces.
        sizes: int64 `[B]`, sides that they are shrunk to, 1 .. P.
        noise: of deviation 1, `[B,3,P,P]`, P a multiple of 16; its upper left counts.
        noise_sigma: `[B]`, 8-bit levels.
        quality: int64 `[B]`, 1 to 100.
        tables: of the JPEG.

    Returns:
        The faces as apply_degradation returns them; but for the JPEG, see `roundtrip`, hardly a value differs by a level.
    """
    side, canvas = blurred.shape[-1], noise.shape[-1]
    full = torch.full_like(sizes, side)
    small = resize(blurred, full, canvas, sizes)
    levels = (255 * small + noise * noise_sigma[:, None, None, None]).round().clamp(0, 255)
    return resize(roundtrip(levels, sizes, quality, tables), sizes, side, full).round() / 255


def print_some(faces: torch.Tensor, degradations: Degradations) -> torch.Tensor:
    """Return the faces, those printed in halftone that are to be."""
    printed = np.flatnonzero(degradations.halftone_pitch)
    if not len(printed):
        return faces
    pitch, angle = (
        send(values[printed], faces.device) for values in (degradations.halftone_pitch, degradations.halftone_angle)
    )
    members = send(printed, faces.device)
    return faces.index_copy(0, members, halftones(faces[members], pitch, angle))


def halftones(faces: torch.Tensor, pitch: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Print faces as `halftone` does, where one pixel in ten thousand may get a dot's edge elsewhere by rounding.

    The subpixels are compared with the screens one place in the pixel after the other, which needs no more memory than a few
    copies of the faces.

    Args:
        faces: RGB.
        pitch: `[B]`, pixels.
        angle: `[B]`, radians.

    Returns:
        The prints, same shape, range and type.
    """
    side = faces.shape[-1]
    ink = torch.nn.functional.pad(1 - faces, [1] * 4, mode="replicate")
    tilt = torch.stack([angle + math.radians(screen_angle) for screen_angle in SCREEN_ANGLES], dim=1)
    cosine, sine = (value[:, :, None, None] / pitch[:, None, None, None] for value in (tilt.cos(), tilt.sin()))
    pixels = torch.arange(side, device=faces.device, dtype=torch.float32)
    paper = torch.zeros_like(faces)
    for row in range(SCREEN_OVERSAMPLING):
        across_rows = _between(ink, row, 2)
        y = (pixels + row / SCREEN_OVERSAMPLING)[:, None]
        for column in range(SCREEN_OVERSAMPLING):
            x = pixels + column / SCREEN_OVERSAMPLING
            along, across = cosine * x + sine * y, cosine * y - sine * x
            from_center = torch.maximum((along - along.round()).abs(), (across - across.round()).abs())
            paper += _between(across_rows, column, 3) <= (2 * from_center).square()
    return paper / SCREEN_OVERSAMPLING**2


def _between(padded: torch.Tensor, subpixel: int, dim: int) -> torch.Tensor:
    """Interpolate linearly at one of the subpixels of every pixel along a dimension, which is padded by one at both ends."""
    side = padded.shape[dim] - 2
    offset = (subpixel + 0.5) / SCREEN_OVERSAMPLING - 0.5
    near, beside = padded.narrow(dim, 1, side), padded.narrow(dim, 2 if offset > 0 else 0, side)
    return near.lerp(beside, abs(offset))
