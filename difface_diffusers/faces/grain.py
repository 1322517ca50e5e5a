"""Film grain and sensor noise: what a photograph has of it around a face, and the same put into the restored face."""

from dataclasses import dataclass

import cv2
import numpy as np

from .alignment import invert, scale_of, transform, warp
from .compositing import WEIGHTS


AROUND = 1.0  # how far around a face its photograph is looked at, in sides of the aligned face
FARTHEST = 512  # the same at most, pixels
KEPT = (
    2  # pixels of the photograph in one of the model, from which on grain is finer than what the restoration changes
)
BLOCK = 16  # side of the places that are measured, in pixels of the photograph before it was enlarged
FINEST = 1.5  # sigma, in the same pixels, of the blur that grain is what remains beside
FLATTEST = 0.25  # share of the places that are measured: those with the least detail
FLAT = 0.01  # standard deviation of coarse detail that is none; more is texture, unless it is but the blur of grain:
NOISY = 0.5  # share of the fine detail's deviation that the coarse one has then at most
FEWEST = 8  # places that tell something
INSIDE = 0.9  # of a mask, from which on a place lies in the face
DARKEST, BRIGHTEST = 0.06, 0.94  # beyond, grain is clipped
UNSEEN = 1 / 255  # standard deviation of grain that nobody misses


@dataclass(frozen=True)
class Places:
    """Small squares of a picture with little detail.

    Attributes:
        residuals: what is finer than a blur, `[K,B,B,3]` float32.
        deviation: the median of their standard deviations in luma, on the scale of [0,1].
    """

    residuals: np.ndarray
    deviation: float


def add_grain(
    photo: np.ndarray, masks: list[np.ndarray], photo_to_faces: list[np.ndarray], enlarged: float = 1
) -> None:
    """Give restored faces, in place, the grain that their photograph has around them.

    Grain is measured in flat places around a face and in it. Where the face has less, noise is added that has the colors and
    the spectrum of the surroundings' grain: white noise, filtered by a piece of it. A photograph without grain stays to the
    last bit.

    Args:
        photo: RGB `[H,W,3]`, uint8 or uint16, the faces in it already.
        masks: per face `[S,S]` float32 in [0,1], where it was changed.
        photo_to_faces: per face `[2,3]`, pixels of the photograph to pixels of the aligned face.
        enlarged: by how much the photograph was enlarged; its grain is as many times coarser.
    """
    levels = np.float32(np.iinfo(photo.dtype).max)
    block, blur = round(BLOCK * enlarged), FINEST * enlarged
    for number, (mask, photo_to_face) in enumerate(zip(masks, photo_to_faces, strict=True)):
        if 1 / scale_of(photo_to_face) > KEPT * enlarged:
            continue
        window, shift = _window_around(photo.shape[:2], len(mask), photo_to_face)
        shown = [
            _draw(other, matrix, shift, photo[window].shape[:2])
            for other, matrix in zip(masks, photo_to_faces, strict=True)
        ]
        part = photo[window] / levels
        residual = part - cv2.GaussianBlur(part, (0, 0), blur)
        around = _flat_places(part, residual, np.maximum.reduce(shown) == 0, block)
        within = _flat_places(part, residual, shown[number] > INSIDE, block)
        if around is None or within is None:
            continue
        missing = np.sqrt(max(around.deviation**2 - within.deviation**2, 0))
        if missing < UNSEEN:
            continue
        noise = np.random.default_rng(number).standard_normal(part.shape[:2], dtype=np.float32)
        grain = missing * _texture(noise, around)
        photo[window] = np.rint(np.clip(part + shown[number][..., None] * grain, 0, 1) * levels)


def _window_around(
    size: tuple[int, int], side: int, photo_to_face: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the part of a photograph around a face, and its left top corner (x, y)."""
    square = np.array([(0, 0), (side, 0), (0, side), (side, side)])
    corners = transform(square, invert(photo_to_face))
    reach = min(AROUND * np.ptp(corners, axis=0).max(), FARTHEST)
    left, top = np.maximum(np.floor(corners.min(0) - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0) + reach), size[::-1]).astype(int)
    return np.s_[top:bottom, left:right], np.array([left, top])


def _draw(mask: np.ndarray, photo_to_face: np.ndarray, shift: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw a face's mask into a part of the photograph, `[*size]` float32 in [0,1]."""
    face_to_part = invert(photo_to_face)
    face_to_part[:, 2] -= shift
    return np.clip(warp(mask, face_to_part, size, cv2.BORDER_CONSTANT), 0, 1)


def _flat_places(part: np.ndarray, residual: np.ndarray, allowed: np.ndarray, block: int) -> Places | None:
    """Return the squares with the least coarse detail among those that lie in `allowed`; `None` if there are too few."""
    height, width = allowed.shape
    if min(height, width) < block:
        return None
    corners = np.s_[: height - block + 1 : max(1, block // 2), : width - block + 1 : max(1, block // 2)]

    def mean(values: np.ndarray) -> np.ndarray:
        """Return the mean of the square that begins at each of the corners."""
        return cv2.boxFilter(values, -1, (block, block), anchor=(0, 0), borderType=cv2.BORDER_REFLECT)[corners]

    smooth, rough = ((values @ WEIGHTS).astype(np.float32) for values in (part - residual, residual))
    brightness = mean(smooth)
    detail, roughness = (np.sqrt(np.maximum(mean(values**2) - mean(values) ** 2, 0)) for values in (smooth, rough))
    usable = (mean(allowed.astype(np.float32)) > 1 - 1e-3) & (brightness > DARKEST) & (brightness < BRIGHTEST)
    usable &= detail < np.maximum(NOISY * roughness, FLAT)
    count = int(usable.sum())
    if count < FEWEST:
        return None
    flattest = np.argsort(np.where(usable, detail, np.inf).ravel(), kind="stable")
    rows, columns = (axis.ravel()[flattest[: max(FEWEST, round(FLATTEST * count))]] for axis in np.mgrid[corners])
    residuals = np.stack(
        [residual[top : top + block, left : left + block] for top, left in zip(rows, columns, strict=True)]
    )
    return Places(residuals, float(np.median((residuals @ WEIGHTS).std(axis=(1, 2)))))


def _texture(noise: np.ndarray, places: Places) -> np.ndarray:
    """Filter white noise `[H,W]` by a typical place; `[H,W,3]` of standard deviation 1 in luma."""
    deviations = (places.residuals @ WEIGHTS).std(axis=(1, 2))
    typical = places.residuals[np.abs(deviations - places.deviation).argmin()]
    window = np.hanning(len(typical) + 2)[1:-1].astype(np.float32)
    kernel = (typical - typical.mean(axis=(0, 1))) * (window * window[:, None])[..., None]
    channels = [
        cv2.filter2D(noise, -1, channel, borderType=cv2.BORDER_REFLECT) for channel in np.moveaxis(kernel, -1, 0)
    ]
    return np.stack(channels, axis=-1) / np.linalg.norm(kernel @ WEIGHTS)
