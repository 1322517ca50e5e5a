"""Damages of real photographs, each by itself: what optics, film, age and files do to a picture.

Images are `[H,W,3]`, RGB, float32 in [0,1], and so are the answers, which are new arrays. Lengths are in pixels of the image,
angles in radians from x towards y. What is random comes from the NumPy generator that is passed in.
"""

import cv2
import numpy as np

from ..imaging.pixels import LUMA
from .jpeg import jpeg


MID_TONES = 0.7  # share of the film grain that is not in black and white, but in the tones between alone
EXPOSURE_GAMMA = 2.2  # of the values, to which light is proportional
WOBBLE = 40  # knots of a crease along the image
ENLARGEMENTS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}

# Optics


def defocus(image: np.ndarray, radius: float) -> np.ndarray:
    """Spread every point over a disk of a radius; 0 changes nothing."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _filter(image, (radius + 0.5 - np.hypot(x, y)).clip(0, 1))


def motion_blur(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Spread every point over a line of a length at an angle; 0 changes nothing."""
    reach = int(np.ceil(length / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return _filter(image, (length / 2 + 0.5 - np.abs(along)).clip(0, 1) * (1 - np.abs(across)).clip(0, 1))


def expose(image: np.ndarray, stops: float) -> np.ndarray:
    """Let 2^stops times the light in: below 0 it is too dark, above it is too bright, and what is brightest is lost."""
    return np.minimum(image * np.float32(2 ** (stops / EXPOSURE_GAMMA)), 1)


# Film and sensor


def monochrome(image: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Print in one ink, say sepia, which keeps the luma (ITU-R BT.601); twice is as once.

    Args:
        image: any.
        red: by how much red is above the luma where that is 0.5, -0.25 to 0.25; less towards black and white.
        blue: the same of blue. With 0 for both the print is gray.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return (luma + 4 * luma * (1 - luma) * _without_luma(red, blue)).clip(0, 1)


def grain(image: np.ndarray, sigma: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Add film grain: noise of the luma, strongest in tones between black and white.

    Args:
        image: any.
        sigma: standard deviation in the mid-tones, 8-bit levels.
        size: standard deviation of the bell that a grain is as wide as, pixels, above 0.
        rng: draws the grains.
    """
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), size, borderType=cv2.BORDER_REFLECT_101)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    strength = np.float32(sigma / 255 / noise.std()) * (1 - MID_TONES + MID_TONES * 4 * luma * (1 - luma))
    return (image + (strength * noise)[..., None]).clip(0, 1)


def chroma_noise(image: np.ndarray, sigma: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Add blotches of color that keep the luma but where a channel is clipped.

    Args:
        image: any.
        sigma: standard deviation of red and blue in the middle of a blotch, 8-bit levels.
        size: of the blotches, pixels.
        rng: draws them.
    """
    height, width = image.shape[:2]
    knots = rng.standard_normal((int(height / size) + 2, int(width / size) + 2, 2), dtype=np.float32)
    red, blue = cv2.split(cv2.resize(knots * np.float32(sigma / 255), (width, height), interpolation=cv2.INTER_CUBIC))
    return (image + _without_luma(red, blue)).clip(0, 1)


# Age


def fade(image: np.ndarray, black: tuple[float, ...], white: tuple[float, ...]) -> np.ndarray:
    """Turn black and white into two colors, and what is between into what is between them.

    Args:
        image: any.
        black: red, green and blue of what was black, 0 to 1.
        white: the same of what was white.
    """
    lowest, highest = np.array(black, np.float32), np.array(white, np.float32)
    return lowest + image * (highest - lowest)


def scratch(image: np.ndarray, count: int, width: float, opacity: float, rng: np.random.Generator) -> np.ndarray:
    """Draw thin, slightly bent, mostly vertical lines, light or dark.

    Args:
        image: any.
        count: of lines.
        width: of the widest, pixels.
        opacity: of the strongest places, 0 to 1.
        rng: draws the lines.
    """
    height, across = image.shape[:2]
    light, dark = np.zeros((2, height, across), np.float32)
    for _ in range(count):
        length = max(2, int(height * rng.uniform(0.1, 1.0)))
        rows = np.arange(length) + rng.integers(height - length + 1)
        along = np.linspace(-1, 1, length)
        slope, bend = rng.normal(0, (0.05, 0.015)) * height
        columns = rng.uniform(0, across) + slope * along + bend * along**2
        strength = opacity * np.interp(along, np.linspace(-1, 1, 7), rng.uniform(0.1, 1, 7))
        _trace(light if rng.random() < 0.6 else dark, rows, columns, width * rng.uniform(0.4, 1), strength)
    return _mark(image, light, dark)


def crease(image: np.ndarray, count: int, width: float, opacity: float, rng: np.random.Generator) -> np.ndarray:
    """Fold the print from edge to edge: jagged light lines where the picture has come off, each with a shadow beside it.

    Args:
        image: any.
        count: of creases, up and down or across, slanted by at most 45 degrees.
        width: of the widest, pixels.
        opacity: of the strongest places, 0 to 1.
        rng: draws the creases.
    """
    light, dark = np.zeros((2, *image.shape[:2]), np.float32)
    for _ in range(count):
        turned = rng.random() < 0.5
        bright, shadow = (light.T, dark.T) if turned else (light, dark)
        length, across = bright.shape
        along, knots = np.linspace(-0.5, 0.5, length), np.linspace(-0.5, 0.5, WOBBLE)
        slope = rng.uniform(-1, 1) ** 3  # most are nearly straight up
        columns = across * (
            rng.uniform(0.05, 0.95) + slope * along + np.interp(along, knots, rng.normal(0, 0.004, WOBBLE))
        )
        wide = width * rng.uniform(0.5, 1) * np.hypot(1, slope)
        widths = wide * np.interp(along, knots, rng.uniform(0.2, 1, WOBBLE))
        strength = opacity * np.interp(along, knots, rng.uniform(0.3, 1, WOBBLE))
        _trace(bright, np.arange(length), columns, widths, strength)
        _trace(shadow, np.arange(length), columns + rng.choice((-1, 1)) * wide, 2 * wide, 0.3 * strength)
    return _mark(image, light, dark)


def dust(image: np.ndarray, count: int, radius: float, opacity: float, rng: np.random.Generator) -> np.ndarray:
    """Strew specks, light or dark, and now and then a fiber.

    Args:
        image: any.
        count: of specks.
        radius: of a usual one, pixels.
        opacity: of the strongest, 0 to 1.
        rng: draws the specks.
    """
    height, width = image.shape[:2]
    shades = np.zeros((2, 2 * height, 2 * width), np.uint8)  # light and dark, in half pixels
    for _ in range(count):
        shade, value = shades[int(rng.random() < 0.4)], 255 * opacity * rng.uniform(0.4, 1)
        center = rng.uniform(0, (2 * width, 2 * height))
        size = 2 * radius * np.exp(rng.normal(0, 0.5))
        if rng.random() < 0.08:
            turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.4, 8))
            path = center + 2 * size * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
            cv2.polylines(shade, [np.rint(16 * path).astype(np.int32)], False, value, 1, cv2.LINE_AA, 4)
        else:
            axes = [max(0, round(16 * axis - 8)) for axis in (size, size * rng.uniform(0.25, 1))]  # OpenCV adds a half
            place = np.rint(16 * center).astype(int).tolist()
            cv2.ellipse(shade, place, axes, rng.uniform(0, 180), 0, 360, value, -1, cv2.LINE_AA, 4)
    light, dark = (
        cv2.resize(shade, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for shade in shades
    )
    return _mark(image, light, dark)


# Files


def thumbnail(image: np.ndarray, downscale: float, enlargement: str) -> np.ndarray:
    """Shrink by a factor and enlarge again as one of `ENLARGEMENTS` does; 1 changes nothing."""
    height, width = image.shape[:2]
    size = max(1, round(width / downscale)), max(1, round(height / downscale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=ENLARGEMENTS[enlargement]).clip(0, 1)


def sharpen(image: np.ndarray, amount: float, radius: float) -> np.ndarray:
    """Add `amount` times what a blur of standard deviation `radius`, above 0, takes away; 0 changes nothing."""
    blurred = cv2.GaussianBlur(image, (0, 0), radius, borderType=cv2.BORDER_REFLECT_101)
    return (image + np.float32(amount) * (image - blurred)).clip(0, 1)


def resave(image: np.ndarray, quality: int, downscale: float, right: int, down: int) -> np.ndarray:
    """Shrink, pass through a JPEG whose blocks of 8 x 8 pixels lie elsewhere, and bring back to size.

    Args:
        image: any.
        quality: of the JPEG, 1 to 100.
        downscale: factor by which it is shrunk before, at least 1.
        right: pixels that another picture had on its left when it was saved, 0 to 7.
        down: pixels that it had above.
    """
    height, width = image.shape[:2]
    size = max(1, round(width / downscale)), max(1, round(height / downscale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    larger = cv2.copyMakeBorder(small, down, 0, right, 0, cv2.BORDER_REFLECT_101)
    return cv2.resize(jpeg(larger, quality)[down:, right:], (width, height), interpolation=cv2.INTER_LINEAR)


def _filter(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, (kernel / kernel.sum()).astype(np.float32))


def _without_luma(red: np.ndarray | float, blue: np.ndarray | float) -> np.ndarray:
    """Return `[...,3]`, float32: what has to be added for red and blue to change so, but not the luma."""
    return np.stack([red, -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1], blue], axis=-1).astype(np.float32)


def _trace(
    marks: np.ndarray, rows: np.ndarray, columns: np.ndarray, width: np.ndarray | float, strength: np.ndarray
) -> None:
    """Draw a line that passes rows `[N]` at columns `[N]`, neither of them whole pixels, on `[H,W]` in place."""
    width = np.broadcast_to(width, columns.shape)[:, None]
    reach = int(np.ceil(width.max() / 2)) + 1
    places = np.rint(columns)[:, None] + np.arange(-reach, reach + 1)
    cover = (width / 2 + 0.5 - np.abs(places - columns[:, None])).clip(0, np.minimum(width, 1)) * strength[:, None]
    inside = (places >= 0) & (places < marks.shape[1])
    row, column = np.broadcast_to(rows[:, None], places.shape)[inside], places[inside].astype(int)
    marks[row, column] = np.maximum(marks[row, column], cover[inside])


def _mark(image: np.ndarray, light: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Lay black and then white over a picture, as strongly as `[H,W]` in [0,1] say."""
    shaded = image * (1 - dark[..., None])
    return shaded + (1 - shaded) * light[..., None]
