"""The blind degradation y0 = { [ (x * k) down_s + n ]_JPEG } up_s that training faces go through (DifFace, eq. 12).

Before it, a face may be printed in halftone; before and after it, a face may wear as real photographs do, see `wear`. Neither
is among the paper's degradations, and unless they are asked for nothing is drawn for them.

Images are `[H,W,3]`, RGB, float32 in [0,1]. All randomness comes from the NumPy generator that is passed in.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from .jpeg import jpeg
from .wear import NO_WEAR, Wear, WearRanges, draw_wear, keep_tones, wear_after, wear_before


REFERENCE_SIZE = 512
KERNEL_RADIUS = 20  # of the blur, for a face of that size
SCREEN_ANGLES = (15, 75, 0)  # of the inks cyan, magenta and yellow, degrees
SCREEN_OVERSAMPLING = 4


@dataclass(frozen=True)
class DegradationRanges:
    """Uniform ranges of the degradation, stated for a face of 512 x 512 pixels.

    For other sizes `blur_sigma`, `downscale` and `halftone_pitch` change in proportion, so that a face loses the same detail at
    every size (a shrinking factor stays one: it is not taken below 1); noise and JPEG quality have no length and stay.

    Attributes:
        blur_sigma: standard deviation of the Gaussian blur, pixels.
        downscale: factor s by which the face is shrunk before noise and compression; below 1 it is enlarged.
        noise_sigma: standard deviation of the white noise, in 8-bit levels (0 to 255).
        jpeg_quality: quality of the JPEG round trip, 1 to 100.
        gray_probability: share of pairs of which both sides become gray.
        mild_probability: share of faces for which the ranges of blur, shrinking, noise, JPEG and wear are all cut to the same
            random part at their harmless end; drawn from the whole ranges, hardly any face is nearly clean.
        halftone_probability: share of faces that are printed in halftone before everything else.
        halftone_pitch: distance between the print's dots, pixels.
        wear_probability: share of faces that get one to three of the damages of real photographs beside all this.
        wear: ranges of these damages.
    """

    blur_sigma: tuple[float, float] = (0.1, 15.0)
    downscale: tuple[float, float] = (0.8, 32.0)
    noise_sigma: tuple[float, float] = (0.0, 20.0)
    jpeg_quality: tuple[float, float] = (30.0, 100.0)
    gray_probability: float = 0.01
    mild_probability: float = 0.0
    halftone_probability: float = 0.0
    halftone_pitch: tuple[float, float] = (8.0, 24.0)
    wear_probability: float = 0.0
    wear: WearRanges = field(default_factory=WearRanges)

    def __post_init__(self) -> None:
        limits = {
            "blur_sigma": (1e-3, np.inf),
            "downscale": (0.1, np.inf),
            "noise_sigma": (0.0, 255.0),
            "jpeg_quality": (1.0, 100.0),
            "halftone_pitch": (1.0, np.inf),
        }
        for name, (lowest, highest) in limits.items():
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(f"`{name}` is ({low}, {high}); it must be (low, high) within {lowest} .. {highest}.")
        for name in ("gray_probability", "mild_probability", "halftone_probability", "wear_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be within 0 .. 1.")

    def cut(self, share: float) -> "DegradationRanges":
        """Return the ranges of which all but the halftone's keep but `share` of their width, at the harmless end."""
        kept = {}
        for name in ("blur_sigma", "downscale", "noise_sigma"):
            low, high = getattr(self, name)
            kept[name] = (low, low + share * (high - low))
        worst, best = self.jpeg_quality
        return replace(self, **kept, jpeg_quality=(best - share * (best - worst), best), wear=self.wear.cut(share))


def gaussian_kernel(radius: int, sigma_x: float, sigma_y: float, angle: float) -> np.ndarray:
    """Return a normalized `[2*radius+1, 2*radius+1]` Gaussian whose x axis is turned by `angle` radians."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    kernel = np.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def blur(image: np.ndarray, radius: int, sigma_x: float, sigma_y: float, angle: float) -> np.ndarray:
    """Blur an image by a `gaussian_kernel`, along rows and columns in turn where it is round; the border is mirrored."""
    if sigma_x != sigma_y:
        return cv2.filter2D(image, -1, gaussian_kernel(radius, sigma_x, sigma_y, angle))
    bell = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_x) ** 2)
    bell = (bell / bell.sum()).astype(np.float32)
    return cv2.sepFilter2D(image, -1, bell, bell)


def halftone(image: np.ndarray, pitch: float, angle: float) -> np.ndarray:
    """Print a face in square dots of three inks, each on a screen of its own.

    A dot covers the share of its cell that the ink's tone asks for, so that the print keeps the tones of the face.

    Args:
        image: `[H,W,3]`, RGB, float32 in [0,1].
        pitch: side of the cells, pixels.
        angle: by which all screens are turned from x towards y, radians.

    Returns:
        The print, same shape, range and type.
    """
    height, width = image.shape[:2]
    ink = 1 - cv2.resize(image, None, fx=SCREEN_OVERSAMPLING, fy=SCREEN_OVERSAMPLING, interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]].astype(np.float32) / np.float32(SCREEN_OVERSAMPLING * pitch)
    screens = []
    for screen_angle in np.deg2rad(SCREEN_ANGLES) + angle:
        cosine, sine = np.float32(np.cos(screen_angle)), np.float32(np.sin(screen_angle))
        along, across = cosine * x + sine * y, cosine * y - sine * x
        from_center = np.maximum(np.abs(along - np.rint(along)), np.abs(across - np.rint(across)))
        screens.append((2 * from_center) ** 2)  # share of a cell that is nearer to its center
    paper = (ink <= np.stack(screens, axis=-1)).astype(np.float32)
    return cv2.resize(paper, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Degradation:
    """What happens to one face, in the pixels of this face.

    Attributes:
        sigma_x: standard deviation of the Gaussian blur along its first axis, pixels.
        sigma_y: the same along its second axis.
        angle: by which the first axis is turned from x towards y, radians.
        downscale: factor s by which the face is shrunk before noise and compression; below 1 it is enlarged.
        noise_sigma: standard deviation of the noise, in 8-bit levels (0 to 255).
        jpeg_quality: quality of the JPEG round trip, 1 to 100.
        halftone_pitch: distance between the dots of a halftone print, pixels; 0 where there is none.
        halftone_angle: by which the print's screens are turned, radians.
        wear: what befalls it besides.
    """

    sigma_x: float
    sigma_y: float
    angle: float
    downscale: float
    noise_sigma: float
    jpeg_quality: int
    halftone_pitch: float = 0.0
    halftone_angle: float = 0.0
    wear: Wear = NO_WEAR


def draw_degradation(
    ranges: DegradationRanges, height: int, width: int, rng: np.random.Generator
) -> tuple[Degradation, np.ndarray]:
    """Draw what happens to a face of `height` x `width` pixels, and the white noise `[h,w,3]` of deviation 1 for it."""
    if ranges.mild_probability and rng.random() < ranges.mild_probability:
        ranges = ranges.cut(rng.random())
    relative_size = min(height, width) / REFERENCE_SIZE
    low, high = (sigma * relative_size for sigma in ranges.blur_sigma)
    sigma_x = sigma_y = rng.uniform(low, high)
    angle = 0.0
    if rng.random() < 0.5:
        sigma_y, angle = rng.uniform(low, high), rng.uniform(-np.pi, np.pi)
    low, high = (relative_downscale(factor, relative_size) for factor in ranges.downscale)
    downscale = rng.uniform(low, high)
    noise = rng.standard_normal((*shrunk_size(height, width, downscale), 3), dtype=np.float32)
    noise_sigma = rng.uniform(*ranges.noise_sigma)
    quality = int(rng.uniform(*ranges.jpeg_quality))
    pitch = halftone_angle = 0.0
    if ranges.halftone_probability and rng.random() < ranges.halftone_probability:
        pitch = rng.uniform(*ranges.halftone_pitch) * relative_size
        halftone_angle = rng.uniform(0, np.pi / 2)
    wear = NO_WEAR
    if ranges.wear_probability and rng.random() < ranges.wear_probability:
        wear = draw_wear(ranges.wear, relative_size, rng)
    return Degradation(sigma_x, sigma_y, angle, downscale, noise_sigma, quality, pitch, halftone_angle, wear), noise


def relative_downscale(factor: float, relative_size: float) -> float:
    """Return a factor for a face of 512 pixels as one for a face of `relative_size` times as many; see `DegradationRanges`."""
    return max(factor * relative_size, min(factor, 1.0))


def shrunk_size(height: int, width: int, downscale: float) -> tuple[int, int]:
    """Return height and width of a face where it gets its noise."""
    return max(1, int(height / downscale)), max(1, int(width / downscale))


def apply_degradation(image: np.ndarray, degradation: Degradation, noise: np.ndarray) -> np.ndarray:
    """Degrade one face: blur, shrink, noise, JPEG, back to size, 8-bit rounding; worn and printed if asked to.

    Args:
        image: clean face `[H,W,3]`, RGB, float32 in [0,1].
        degradation: what happens to it.
        noise: white noise of deviation 1, `[h,w,3]` as `shrunk_size` tells.

    Returns:
        The degraded face, `[H,W,3]`, float32, on the 8-bit levels k/255.
    """
    height, width = image.shape[:2]
    image = wear_before(image, degradation.wear)
    if degradation.halftone_pitch:
        image = halftone(image, degradation.halftone_pitch, degradation.halftone_angle)
    radius = max(3, round(KERNEL_RADIUS * min(height, width) / REFERENCE_SIZE))
    degraded = blur(image, radius, degradation.sigma_x, degradation.sigma_y, degradation.angle)
    degraded = cv2.resize(degraded, noise.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    degraded = (degraded + noise * np.float32(degradation.noise_sigma / 255)).clip(0, 1)
    degraded = jpeg(degraded, degradation.jpeg_quality)
    degraded = cv2.resize(degraded, (width, height), interpolation=cv2.INTER_LINEAR)
    return to_8_bits(wear_after(degraded, degradation.wear))


def degrade(image: np.ndarray, ranges: DegradationRanges, rng: np.random.Generator) -> np.ndarray:
    """Degrade one face as `apply_degradation` does, all parameters and the noise drawn by `rng`.

    Args:
        image: clean face `[H,W,3]`, RGB, float32 in [0,1].
        ranges: where each parameter is drawn from.
        rng: draws every parameter and the noise.

    Returns:
        The degraded face, same shape, float32, on the 8-bit levels k/255.
    """
    return degrade_pair(image, ranges, rng)[1]


def degrade_pair(
    image: np.ndarray, ranges: DegradationRanges, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a restoration should come to, see `keep_tones`, and the face degraded as by `degrade`."""
    degradation, noise = draw_degradation(ranges, *image.shape[:2], rng)
    return keep_tones(image, degradation.wear), apply_degradation(image, degradation, noise)


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """Round to the 8-bit levels k/255, float32."""
    return (np.rint(image * 255).clip(0, 255) / 255).astype(np.float32)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Return the face as three equal channels of its luma (ITU-R BT.601)."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
