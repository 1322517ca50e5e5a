"""Changes that make new faces of the few there are: turn, size, place, proportions, tone, tint, and two made into one.

All randomness comes from the NumPy generator that is passed in.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np


MIX_GRID = 4  # knots per side of the mask that mixes two faces: regions are as large as an eye, or half of the face
MIX_EDGE = 0.03  # standard deviation of the blur of the mask's edges, in widths of the image
WARP_GRID = 5  # knots per side of the random deformation: one reaches about as far as an eye or a mouth


@dataclass(frozen=True)
class AugmentationRanges:
    """How far a face is changed at most; 0 leaves that property alone.

    Attributes:
        rotation: angle to either side, degrees.
        zoom: relative change of size, up or down.
        shift: displacement along either axis, in widths of the image.
        warp: standard deviation of a smooth random deformation, in widths of the image; it changes the proportions of
            the face, that is, who it is.
        tone: natural logarithm of the exponent that brightens or darkens all channels.
        tint: natural logarithm of an exponent of each channel's own.
        mix: share of the faces of which some regions are another face's; see `mix`.
    """

    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    tone: float = 0.0
    tint: float = 0.0
    mix: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value < 0:
                raise ValueError(f"`{entry.name}` is {value}; it must be at least 0.")
        if self.zoom >= 1:
            raise ValueError(f"`zoom` is {self.zoom}; it must be below 1.")
        if self.mix > 1:
            raise ValueError(f"`mix` is {self.mix}; it must be at most 1.")


def mix(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make one aligned face of two: a smooth random mask takes each region from either.

    What a network sees of a region is a real face's, while the whole is nobody's; with n faces there are n^2 pairs.

    Args:
        first: `[H,W,3]`, float32 in [0,1].
        second: another one, same shape.
        rng: draws the mask.

    Returns:
        The mixed face, same shape and type.
    """
    height, width = first.shape[:2]
    knots = rng.standard_normal((MIX_GRID, MIX_GRID), dtype=np.float32)
    regions = (cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC) > 0).astype(np.float32)
    share = cv2.GaussianBlur(regions, (0, 0), MIX_EDGE * width, borderType=cv2.BORDER_REFLECT_101)[..., None]
    return (first + share * (second - first)).clip(0, 1)


@dataclass(frozen=True)
class Augmentation:
    """What happens to one face.

    Attributes:
        angle: by which it is turned, degrees.
        zoom: relative change of its size.
        right: displacement along x, in widths of the image.
        down: displacement along y, in widths of the image.
        knots: displacements `[WARP_GRID,WARP_GRID,2]`, (x, y) in widths of the image, which the places between follow.
        exponents: of the three channels' values from 0 to 1.
    """

    angle: float
    zoom: float
    right: float
    down: float
    knots: np.ndarray
    exponents: np.ndarray


def draw_augmentation(ranges: AugmentationRanges, rng: np.random.Generator) -> Augmentation:
    """Draw what happens to a face."""
    placement = rng.uniform(-1, 1, 4) * (ranges.rotation, ranges.zoom, ranges.shift, ranges.shift)
    knots = rng.standard_normal((WARP_GRID, WARP_GRID, 2), dtype=np.float32) * np.float32(ranges.warp)
    exponents = np.exp(rng.uniform(-1, 1) * ranges.tone + rng.uniform(-1, 1, 3) * ranges.tint)
    return Augmentation(*placement, knots, exponents)


def apply_augmentation(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Change one face; what comes in from outside is the mirrored border.

    Args:
        image: `[H,W,3]`, RGB, uint8.
        augmentation: what happens to it.

    Returns:
        The changed face, same shape and type.
    """
    return _recolor(_deform(image, augmentation), augmentation.exponents)


def augment(image: np.ndarray, ranges: AugmentationRanges, rng: np.random.Generator) -> np.ndarray:
    """Change one face at random, as `apply_augmentation` does.

    Args:
        image: `[H,W,3]`, RGB, uint8.
        ranges: how far.
        rng: draws everything.

    Returns:
        The changed face, same shape and type.
    """
    return apply_augmentation(image, draw_augmentation(ranges, rng))


def _deform(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    height, width = image.shape[:2]
    placement = augmentation.angle, augmentation.zoom, augmentation.right, augmentation.down
    if not (any(placement) or augmentation.knots.any()):
        return image
    similarity = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), augmentation.angle, 1 + augmentation.zoom
    )
    similarity[:, 2] += augmentation.right * width, augmentation.down * width
    back = cv2.invertAffineTransform(similarity).astype(np.float32)
    columns, rows = np.arange(width, dtype=np.float32)[:, None], np.arange(height, dtype=np.float32)[:, None, None]
    source = cv2.resize(augmentation.knots * np.float32(width), (width, height), interpolation=cv2.INTER_CUBIC)
    source += columns * back[:, 0] + (rows * back[:, 1] + back[:, 2])
    x, y = cv2.split(source)
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _recolor(image: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    levels = np.arange(256)[:, None] / 255
    table = np.rint(255 * levels**exponents).astype(np.uint8)
    return cv2.LUT(image, table[None])
