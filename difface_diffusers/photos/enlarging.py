"""Enlarging a photograph, its alpha too, so that no color shows that could not be seen before."""

import cv2
import numpy as np

from .upscale import BACKGROUNDS, Upscaler, upscale_lanczos


HEADROOM = 0.75  # share of the levels that weighted colors take, as filters overshoot
FILTER_RADIUS = 4  # pixels of the photograph that a filter reaches; where alpha is even, no weights are needed
LEAST_ALPHA = 0.02  # below it colors are hardly seen, and a sum of positive and negative weights is all noise


def fill_invisible(rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Give fully transparent pixels the colors of the nearest visible ones.

    Args:
        rgb: `[H,W,3]`, uint8 or uint16.
        alpha: `[H,W]` of the same type, or `None` where all is visible.

    Returns:
        A new `[H,W,3]`; `rgb` itself if all or nothing is visible.
    """
    if alpha is None or not alpha.any() or alpha.all():
        return rgb
    hidden = alpha == 0
    weights = alpha.astype(np.float32)[..., None]
    filled = _fill_holes(np.concatenate([rgb * weights, weights], axis=-1))
    return np.where(hidden[..., None], np.rint(filled).astype(rgb.dtype), rgb)


def _fill_holes(weighted: np.ndarray) -> np.ndarray:
    """Divide colors by their weights, `[H,W,3+1]`; where the weight is 0 the picture of half the size gives them."""
    colors, weights = weighted[..., :3], weighted[..., 3:]
    known = weights > 0
    if known.all():
        return colors / weights
    height, width = weights.shape[:2]
    half = cv2.resize(weighted, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(_fill_holes(half), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(known, colors / np.where(known, weights, 1), coarse)


def enlarge(
    rgb: np.ndarray, alpha: np.ndarray | None, size: tuple[int, int], background: Upscaler, blend: float = 1.0
) -> tuple[np.ndarray, np.ndarray | None]:
    """Enlarge a photograph; the result is the caller's to change.

    Where alpha varies, colors are weighted by alpha (premultiplied), so that each shows as far as it showed before.

    Args:
        rgb: `[H,W,3]`, uint8 or uint16; enlarged as `fill_invisible` returns it.
        alpha: `[H,W]` of the same type, or `None`.
        size: height and width of the result.
        background: enlarges it.
        blend: share of `background`, 0 .. 1; the rest is enlarged by Lanczos.

    Returns:
        `[*size,3]` and `[*size]` or `None`, both of the type of `rgb`.

    Raises:
        ValueError: the upscaler answered another type or size.
    """
    levels = np.iinfo(rgb.dtype).max
    if alpha is None or size == rgb.shape[:2]:
        return _upscale(rgb, size, background, blend), alpha
    rgb = fill_invisible(rgb, alpha)
    enlarged = _upscale(rgb, size, background, blend)
    reach = np.ones((2 * FILTER_RADIUS + 1,) * 2, np.uint8)
    uneven = cv2.dilate(alpha, reach) != cv2.erode(alpha, reach)
    if not uneven.any():
        return enlarged, np.full(size, alpha[0, 0], rgb.dtype)
    # Networks know pictures; what alpha and colors weighted by it are to them is not to be relied on.
    rim = background if background in BACKGROUNDS.values() else upscale_lanczos
    weights = (alpha.astype(np.float32) / levels * HEADROOM)[..., None]
    weights, colors = (
        rim(np.rint(part * np.float32(65535)).astype(np.uint16), size)
        for part in (np.repeat(weights, 3, axis=-1), weights * rgb / np.float32(levels))
    )
    weights = weights[..., :1] / np.float32(65535 * HEADROOM)
    uneven = cv2.resize(uneven.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    blended = uneven & (weights[..., 0] > LEAST_ALPHA)
    scale = np.float32(levels / (65535 * HEADROOM))
    enlarged[blended] = np.rint(np.clip(scale * colors[blended] / weights[blended], 0, levels))
    return enlarged, np.rint(np.clip(weights[..., 0], 0, 1) * levels).astype(rgb.dtype)


def _upscale(rgb: np.ndarray, size: tuple[int, int], background: Upscaler, blend: float) -> np.ndarray:
    """Enlarge `[H,W,3]` to `size`; the result shares no memory with it."""
    if blend == 0:
        return upscale_lanczos(rgb, size)
    enlarged = background(rgb, size)
    if enlarged.shape != (*size, 3) or enlarged.dtype != rgb.dtype:
        raise ValueError(
            f"`background` answered {enlarged.dtype} {list(enlarged.shape)}; it must be {rgb.dtype} {[*size, 3]}."
        )
    if blend < 1:
        return cv2.addWeighted(enlarged, blend, upscale_lanczos(rgb, size), 1 - blend, 0)
    return enlarged.copy() if np.may_share_memory(enlarged, rgb) else enlarged
