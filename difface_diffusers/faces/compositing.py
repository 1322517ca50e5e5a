"""Put restored faces back into a photograph; for the convention of points and matrices see `alignment`."""

import itertools

import cv2
import numpy as np

from ..imaging.pixels import LUMA
from .alignment import compose, invert, transform, warp


TILE = 1024  # of the photograph that is worked on at a time, pixels; bounds the memory
WEIGHTS = np.array(LUMA, np.float32)
COLOR_SCALE = 0.08  # share of the side of an aligned face: sigma above which its colors are the photograph's
TINT_TOLERANCE = 3 / 255
GRAY_CHOICES = ("auto", "on", "off")


def to_gray(image: np.ndarray) -> np.ndarray:
    """Return `[...,3]` float with its luma in all three channels."""
    return np.repeat((image @ WEIGHTS)[..., None], 3, axis=-1)


def is_tinted(photo: np.ndarray) -> bool:
    """Tell whether a photograph is gray or of a single tint, as sepia prints are.

    That is so when its colors follow from its brightness, and lean to one side only: what a parabola in the luma leaves of
    the three channels is below 3/255 (root mean square), which JPEG's color noise is and a color photograph is not, and
    no two parts are tinted opposite ways.

    Args:
        photo: RGB `[H,W,3]`, uint8 or uint16.
    """
    rows, columns = (max(1, min(side, 256)) for side in photo.shape[:2])
    small = cv2.resize(photo, (columns, rows), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    small = small.astype(np.float32) / np.iinfo(photo.dtype).max
    luma = small @ WEIGHTS
    powers = np.stack([np.ones_like(luma), luma, luma**2], axis=-1)
    fit, *_ = np.linalg.lstsq(powers, small, rcond=None)
    left_over = np.sqrt(np.mean((powers @ fit - small) ** 2))
    chroma = small - luma[:, None]
    direction = np.linalg.svd(chroma.T @ chroma)[0][:, 0]
    low, high = np.quantile(chroma @ direction, (0.02, 0.98))
    both_ways = low < -2 * TINT_TOLERANCE and high > 2 * TINT_TOLERANCE
    return bool(left_over < TINT_TOLERANCE and not both_ways)


def keeps_tint(photo: np.ndarray, keep_gray: str) -> bool:
    """Tell whether only the brightness of a photograph may change: "on", or "auto" and it is of one tint."""
    return keep_gray == "on" or (keep_gray == "auto" and is_tinted(photo))


def match_color(restored: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Give a restored face the colors and the shading that the face had before, so that it fits into its photograph.

    What varies over an eighth of the face or more survives blur, noise and compression, so there the photograph is right and
    the model is not; what is finer is the restoration's.

    Args:
        restored: `[S,S,3]` float32.
        crop: the same face before, `[S,S,3]` float32.

    Returns:
        `[S,S,3]`; may leave [0,1] where the shift does.
    """
    return restored + cv2.GaussianBlur(crop - restored, (0, 0), COLOR_SCALE * len(crop), borderType=cv2.BORDER_REFLECT)


def add_changes(
    photo: np.ndarray, changes: list[np.ndarray], masks: list[np.ndarray], photo_to_faces: list[np.ndarray]
) -> None:
    """Add to a photograph, in place, what the restoration changed in each face.

    Only the change is added, through a soft mask: detail of the photograph that is finer than the aligned face's pixels
    stays, what was not changed stays to the last bit, and so does every pixel outside the masks. Where masks overlap, each
    face has its share in proportion to its mask.

    Args:
        photo: `[H,W,C]`, uint8 or uint16.
        changes: per face `[S,S,C]` float32, restored minus not restored, both in [0,1].
        masks: per face `[S,S]` float32 in [0,1], how much of the change shows, see `masks`.
        photo_to_faces: per face `[2,3]`, pixels of the photograph to pixels of the aligned face.
    """
    scale = np.iinfo(photo.dtype).max
    for top, left in itertools.product(range(0, photo.shape[0], TILE), range(0, photo.shape[1], TILE)):
        tile = photo[top : top + TILE, left : left + TILE]
        tile_to_photo = np.array([[1.0, 0, left], [0, 1, top]])
        weighted = np.zeros(tile.shape, np.float32)
        total = np.zeros((*tile.shape[:2], 1), np.float32)
        for change, mask, photo_to_face in zip(changes, masks, photo_to_faces, strict=True):
            _draw(change, mask, compose(tile_to_photo, photo_to_face), weighted, total)
        touched = total[..., 0] > 0
        result = tile[touched] + scale * weighted[touched] / total[touched]
        tile[touched] = np.rint(np.clip(result, 0, scale))


def _draw(
    change: np.ndarray, mask: np.ndarray, tile_to_face: np.ndarray, weighted: np.ndarray, total: np.ndarray
) -> None:
    """Add a face's change times its mask squared to `weighted` `[H,W,C]`, and its mask to `total` `[H,W,1]`."""
    side = len(change)
    corners = transform(np.array([(0, 0), (side, 0), (0, side), (side, side)]), invert(tile_to_face))
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)), total.shape[1::-1]).astype(int)
    if left >= right or top >= bottom:
        return
    face_to_part = invert(compose(np.array([[1.0, 0, left], [0, 1, top]]), tile_to_face))
    part, size = np.s_[top:bottom, left:right], (bottom - top, right - left)
    shown = np.clip(warp(mask, face_to_part, size, cv2.BORDER_CONSTANT), 0, 1)[..., None]
    drawn = warp(change, face_to_part, size)
    weighted[part] += shown**2 * drawn.reshape(*size, -1)  # OpenCV drops a single channel
    total[part] += shown
