"""Test sets made of clean aligned faces: those of the paper, for restoration and for holes, and blind ones of any length.

A set is a stream of recipes, one a face, each with the parameters to note down. The same arguments give the same stream.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from ..evaluation.protocol import INPAINTING_SEED, RESTORATION_SEED
from .blind import (
    REFERENCE_SIZE,
    Degradation,
    DegradationRanges,
    apply_degradation,
    draw_degradation,
    relative_downscale,
    shrunk_size,
)
from .holes import MASKS
from .wear import keep_tones


QUALITIES = (30, 40, 50, 60, 70)
SCALES = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40)
NOISE_SIGMAS = (1, 5, 10, 15, 20)
BLUR_SIGMAS = (4, 8, 12, 16)
ANGLES = (0.0, 0.25 * math.pi, 0.5 * math.pi, 0.75 * math.pi)

TEST_MASKS, FACES_PER_MASK = ("box", "irregular", "expand", "half"), 500


@dataclass(frozen=True)
class Combination:
    """Parameters of one face of the paper's test set, stated for 512 x 512 pixels.

    Attributes:
        jpeg_quality: quality of the JPEG round trip.
        scale: factor by which the face is shrunk.
        noise_sigma: standard deviation of the noise, in 8-bit levels.
        sigma_x: standard deviation of the blur along its first axis, pixels.
        angle: by which this axis is turned from x towards y, radians.
        sigma_y: standard deviation of the blur along its second axis, pixels.
    """

    jpeg_quality: int
    scale: int
    noise_sigma: int
    sigma_x: int
    angle: float
    sigma_y: int

    def at(self, size: int) -> Degradation:
        """Return what it does to a face of `size` x `size` pixels; lengths change as in `DegradationRanges`."""
        relative_size = size / REFERENCE_SIZE
        return Degradation(
            sigma_x=self.sigma_x * relative_size,
            sigma_y=self.sigma_y * relative_size,
            angle=self.angle,
            downscale=relative_downscale(self.scale, relative_size),
            noise_sigma=self.noise_sigma,
            jpeg_quality=self.jpeg_quality,
        )


@dataclass(frozen=True)
class Recipe:
    """How one face of a test set is made.

    Attributes:
        parameters: what to note down about it.
        degrade: makes of the clean face `[S,S,3]`, RGB float32 in [0,1], the degraded one.
        mask: what `degrade` takes away, `[S,S]` float32, 1 where the face is missing; `None` where nothing is.
        target: makes of the clean face what a restoration should come to; `None` where that is the clean face.
    """

    parameters: dict[str, float | str]
    degrade: Callable[[np.ndarray], np.ndarray]
    mask: np.ndarray | None = None
    target: Callable[[np.ndarray], np.ndarray] | None = None


def combinations(seed: int = RESTORATION_SEED) -> list[Combination]:
    """Return the 4,000 combinations of the paper's CelebA-Test in its order; `seed` draws the second blur sigmas."""
    rng = random.Random(seed)
    grid = itertools.product(QUALITIES, SCALES, NOISE_SIGMAS, BLUR_SIGMAS, ANGLES)
    return [Combination(*parameters, rng.choice(BLUR_SIGMAS)) for parameters in grid]


def restoration_set(size: int, seed: int = RESTORATION_SEED) -> Iterator[Recipe]:
    """Yield the 4,000 recipes of the paper's CelebA-Test for faces of `size` x `size` pixels, and their parameters in these.

    The noise comes from one stream of NumPy's legacy generator, as in the paper's set, so every face depends on those before.
    """
    stream = np.random.RandomState(seed)
    for combination in combinations(seed):
        degradation = combination.at(size)
        noise = stream.standard_normal((*shrunk_size(size, size, degradation.downscale), 3)).astype(np.float32)
        noted: dict[str, float | str] = {
            "jpeg_quality": degradation.jpeg_quality,
            "scale": degradation.downscale,
            "noise_sigma": degradation.noise_sigma,
            "sigma_x": degradation.sigma_x,
            "angle": degradation.angle,
            "sigma_y": degradation.sigma_y,
        }
        yield Recipe(noted, partial(apply_degradation, degradation=degradation, noise=noise))


def inpainting_set(size: int, seed: int = INPAINTING_SEED) -> Iterator[Recipe]:
    """Yield the 2,000 recipes of the paper's test set for holes: 500 each of boxes, strokes, surroundings and halves."""
    for index, kind in enumerate(kind for kind in TEST_MASKS for _ in range(FACES_PER_MASK)):
        mask = MASKS[kind](size, np.random.default_rng([seed, index]))
        yield Recipe({"mask": kind, "missing": float(mask.mean())}, partial(_take_away, mask=mask), mask)


def blind_set(size: int, seed: int = 0, ranges: DegradationRanges | None = None) -> Iterator[Recipe]:
    """Yield recipes without end, drawn as in training; the i-th depends on `seed` and i alone.

    The parameters are those of a `Degradation`, so in pixels of the face at hand, and where faces may be worn those of a `Wear`
    behind "wear_".
    """
    ranges = ranges or DegradationRanges()
    for index in itertools.count():
        degradation, noise = draw_degradation(ranges, size, size, np.random.default_rng([seed, index]))
        noted = asdict(degradation)
        wear = noted.pop("wear")
        if ranges.wear_probability:
            noted |= {f"wear_{name}": value for name, value in wear.items()}
        target = partial(keep_tones, wear=degradation.wear) if degradation.wear.changes_tones else None
        yield Recipe(noted, partial(apply_degradation, degradation=degradation, noise=noise), target=target)


def _take_away(clean: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return clean * (1 - mask[..., None])
