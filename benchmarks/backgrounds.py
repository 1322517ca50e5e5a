"""Textured backgrounds to plant faces in: clouds, stripes, tiles and scattered shapes."""

import cv2
import numpy as np


def textured_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a picture without faces of a random kind, in uneven light, more or less out of focus; uint8 RGB `[H,W,3]`."""
    painters = (_clouds, _stripes, _tiles, _scatter, _scatter)
    picture = painters[rng.integers(len(painters))](rng, height, width)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 4))
    light = _octaves(rng, height, width, octaves=3) + 0.5  # 0.5 .. 1.5
    texture = _octaves(rng, height, width, octaves=11) - 0.5
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture * light * (1 + rng.uniform(0.3, 1.5) * texture) + rng.uniform(0, 4) * grain
    return picture.clip(0, 255).round().astype(np.uint8)


def _octaves(rng: np.random.Generator, height: int, width: int, octaves: int) -> np.ndarray:
    """Sum of smooth noises, each twice as fine and of 0.7 times the contrast; float32 `[H,W,1]` in 0 .. 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grid = rng.random((2 + 2**octave * height // max(height, width), 2 + 2**octave), dtype=np.float32)
        total += 0.7**octave * cv2.resize(grid, (width, height))
    return total[..., None] * 0.3 / (1 - 0.7**octaves)


def _colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return `[count,3]` colors, float32 in [0, 255], around a common tint."""
    tint = rng.uniform(50, 200) + rng.normal(0, 25, 3)
    lightness = rng.normal(0, rng.uniform(10, 60), (count, 1))
    return (tint + lightness + rng.normal(0, rng.uniform(5, 30), (count, 3))).clip(0, 255).astype(np.float32)


def _across(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates of every pixel, float32 `[H,W,1]` each, at right angles in a random direction."""
    cosine, sine = np.float32(np.cos(angle := rng.uniform(0, np.pi))), np.float32(np.sin(angle))
    y, x = np.arange(height, dtype=np.float32)[:, None, None], np.arange(width, dtype=np.float32)[:, None]
    return x * cosine + y * sine, y * cosine - x * sine


# The painters return float32 RGB `[H,W,3]` in [0, 255].


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gradient, or clouds."""
    first, second = _colors(rng, 2)
    share = _octaves(rng, height, width, octaves=int(rng.integers(1, 8)))
    return first + (second - first) * (share * 2 - 0.5).clip(0, 1)


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Stripes with hard or soft edges."""
    first, second = _colors(rng, 2)
    wave = np.sin(_across(rng, height, width)[0] * np.float32(2 * np.pi / rng.uniform(8, 200)))
    return first + (second - first) * (0.5 + 0.5 * (wave * rng.choice((1, 8))).clip(-1, 1)).astype(np.float32)


def _tiles(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Bricks, or the squares of a chessboard, with joints."""
    along, across = (coordinate / np.float32(rng.uniform(10, 120)) for coordinate in _across(rng, height, width))
    shift = rng.choice((0, 0.5))
    row = np.floor(across)
    column = along + row % 2 * shift
    colors = _colors(rng, rng.choice((2, 40)))
    kind = (np.floor(column) * 7 + row * 31).astype(int)[..., 0] % len(colors)
    joint = rng.uniform(0, 0.1)
    return np.where((across % 1 < joint) | (column % 1 < joint), _colors(rng, 1), colors[kind])


def _scatter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """From a few large ellipses and polygons to the many small ones of foliage."""
    picture = _clouds(rng, height, width).astype(np.uint8)
    length = width * np.exp(rng.uniform(*np.log((0.008, 0.2))))
    count = round(rng.uniform(0.3, 1.5) * width * height / length**2)
    colors = _colors(rng, 40).tolist()
    pointed = rng.choice((0, 0.5, 1))
    for middle in rng.uniform(0, (width, height), (count, 2)):
        color = colors[rng.integers(len(colors))]
        if rng.random() < pointed:
            corners = middle + rng.normal(0, length / 2, (rng.integers(3, 8), 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], color, cv2.LINE_AA)
        else:
            ellipse = (middle.tolist(), rng.uniform(0.3, 1.6, 2) * length, rng.uniform(0, 180))
            cv2.ellipse(picture, ellipse, color, -1, cv2.LINE_AA)
    return picture.astype(np.float32)
