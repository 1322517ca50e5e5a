"""The changes of `augmentation.py` for whole batches on any device. What happens is drawn on the CPU, for all faces at once."""

from dataclasses import dataclass

import numpy as np
import torch

from ..degradation.batched_filters import convolve, gaussian_kernels, send
from .augmentation import MIX_EDGE, WARP_GRID, AugmentationRanges


LEVELS = 255


@dataclass(frozen=True)
class Augmentations:
    """What happens to each face of a batch; see `Augmentation`, whose fields these are with a dimension more in front.

    Attributes:
        angle: `[B]`, float64, as the next three.
        zoom: `[B]`.
        right: `[B]`.
        down: `[B]`.
        knots: `[B,WARP_GRID,WARP_GRID,2]`, float32.
        exponents: `[B,3]`, float64.
    """

    angle: np.ndarray
    zoom: np.ndarray
    right: np.ndarray
    down: np.ndarray
    knots: np.ndarray
    exponents: np.ndarray


def draw_augmentations(ranges: AugmentationRanges, count: int, rng: np.random.Generator) -> Augmentations:
    """Draw what happens to `count` faces, each as `draw_augmentation` draws it."""
    furthest = (ranges.rotation, ranges.zoom, ranges.shift, ranges.shift)
    placement = [limit * rng.uniform(-1, 1, count) for limit in furthest]
    knots = rng.standard_normal((count, WARP_GRID, WARP_GRID, 2), dtype=np.float32) * np.float32(ranges.warp)
    exponents = rng.uniform(-1, 1, (count, 1)) * ranges.tone + rng.uniform(-1, 1, (count, 3)) * ranges.tint
    return Augmentations(*placement, knots, np.exp(exponents))


def apply_augmentations(faces: torch.Tensor, augmentations: Augmentations) -> torch.Tensor:
    """Change faces as `apply_augmentation` does.

    The mean absolute difference from its answers is below 0.5 levels: `cv2.remap` reads at multiples of 1/32 pixels only.

    Args:
        faces: `[B,3,S,S]`, RGB, uint8.
        augmentations: what happens to them.

    Returns:
        The changed faces, same shape, float32, whole numbers from 0 to 255.
    """
    levels = faces.float()
    placement = augmentations.angle, augmentations.zoom, augmentations.right, augmentations.down
    if any(values.any() for values in (*placement, augmentations.knots)):
        back = send(to_source(*placement, faces.shape[-1]), faces.device)
        levels = deform(levels, back, send(augmentations.knots, faces.device))
    if (augmentations.exponents != 1).any():
        levels = recolor(levels, send(augmentations.exponents, faces.device))
    return levels


def to_source(angle: np.ndarray, zoom: np.ndarray, right: np.ndarray, down: np.ndarray, size: int) -> np.ndarray:
    """Return the matrices `[B,2,3]` that map (x, y, 1) of changed faces to pixels of the faces that they are made of.

    Args:
        angle: `[B]`, by which the faces are turned from x against y about their centers, degrees.
        zoom: `[B]`, relative change of size.
        right: `[B]`, displacement along x in widths.
        down: `[B]`, along y.
        size: side of the faces, pixels.
    """
    center = (size - 1) / 2
    cosine, sine = np.cos(np.deg2rad(angle)) / (1 + zoom), np.sin(np.deg2rad(angle)) / (1 + zoom)
    turn = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
    moved = center + size * np.stack([right, down], axis=-1)[..., None]
    return np.concatenate([turn, center - turn @ moved], axis=-1)


def deform(levels: torch.Tensor, back: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Take faces from displaced places by a cubic, what is outside mirrored about the outermost pixels.

    Args:
        levels: `[B,C,S,S]`, float32, from 0 to 255.
        back: of `to_source`, `[B,2,3]`.
        knots: further displacements, `[B,K,K,2]`, (x, y) in widths, which the places between follow by a cubic.

    Returns:
        The faces, same shape, rounded and from 0 to 255.
    """
    size = levels.shape[-1]
    warp = torch.nn.functional.interpolate(knots.permute(0, 3, 1, 2), size=(size, size), mode="bicubic")
    places = torch.arange(size, device=levels.device, dtype=torch.float32)
    along_x, along_y, offset = (back * (2 / (size - 1)))[:, :, None, None].unbind(-1)
    grid = along_x * places + (along_y * places + offset - 1).mT + warp * (2 * size / (size - 1))
    moved = torch.nn.functional.grid_sample(
        levels, grid.permute(0, 2, 3, 1), mode="bicubic", padding_mode="reflection", align_corners=True
    )
    return moved.round().clamp(0, LEVELS)


def recolor(levels: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Return levels, `[B,3,S,S]`, with the values from 0 to 1 that they stand for to the powers `[B,3]`, rounded."""
    return (LEVELS * (levels / LEVELS) ** exponents[:, :, None, None]).round()


def mix_batch(first: torch.Tensor, second: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Make one face each of two as `mix` does, to a level but at edges of the mask.

    Args:
        first: `[B,3,S,S]`, float32 in [0,1].
        second: other ones, same shape.
        knots: standard normal, `[B,MIX_GRID,MIX_GRID]`.

    Returns:
        The mixed faces, same shape and type.
    """
    size = first.shape[-1]
    surface = torch.nn.functional.interpolate(knots[:, None], size=(size, size), mode="bicubic")
    sigma = torch.full((len(first),), MIX_EDGE * size, device=first.device)
    radius = round(8 * MIX_EDGE * size + 1) // 2  # of the kernel that OpenCV takes
    share = convolve((surface > 0).float(), gaussian_kernels(radius, sigma, sigma, torch.zeros_like(sigma)))
    return first.lerp(second, share.expand_as(first)).clamp(0, 1)
