"""Where the change of a restored face shows in its photograph: in the face, and no farther than the two fit together."""

from typing import Any

import cv2
import numpy as np

from .compositing import WEIGHTS


# Lengths are shares of the aligned face's side.
FACE_REACH = 0.2  # beyond the hull of the landmarks: chin, cheeks and forehead
FADE_REACH = 0.38  # hair and ears fade out up to here
BORDER = 0.06  # of the aligned face, where nothing may end suddenly
STRUCTURE_SCALE = 0.02  # sigma of the coarse structure: outlines of jaw and hair, no pores or strands
SPREAD = 0.025  # sigma by which a place where the two do not fit reaches around itself
TOLERANCE = 0.02  # of a brightness of 1: coarse change up to which they fit
STEEPER = 4  # exponent that is added to the mask where they do not


def face_mask(landmarks: np.ndarray, side: int) -> np.ndarray:
    """Return how much of a restoration may show: 1 in the face, fading to 0 around it and before the border.

    Args:
        landmarks: of the aligned face, `[5,2]`, pixels.
        side: of the aligned face, pixels.

    Returns:
        `[side,side]` float32 in [0,1].
    """
    fade = smooth_step(FADE_REACH, FACE_REACH, _distance_to(landmarks, side))
    places = (np.arange(side, dtype=np.float32) + 0.5) / side
    border = smooth_step(0, BORDER, np.minimum(places, 1 - places))
    return fade * border * border[:, None]


def fitting_mask(landmarks: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return `face_mask`, but fading sooner where restoration and photograph show different things.

    In the face all of the change shows. Where the mask fades, both pictures show through each other; if an outline of hair
    has moved there, or something is drawn into the background, that is seen as a bright or dark line. There the mask falls
    off at once. Fine detail may change everywhere.

    Args:
        landmarks: of the aligned face, `[5,2]`, pixels.
        change: restored minus not restored, `[S,S,3]` float32.

    Returns:
        `[S,S]` float32 in [0,1].
    """
    side = len(change)
    coarse = np.abs(_blur(change, STRUCTURE_SCALE) @ WEIGHTS)
    misfit = _blur(smooth_step(TOLERANCE, 3 * TOLERANCE, coarse), SPREAD)
    return face_mask(landmarks, side) ** (1 + STEEPER * misfit)


def smooth_step(start: float, end: float, values: Any) -> Any:
    """Return a smooth rise from 0 at `start` to 1 at `end`, which may be the smaller one; of a number or an array."""
    share = np.clip((values - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def _distance_to(landmarks: np.ndarray, side: int) -> np.ndarray:
    """Return how far each pixel is from the hull of the landmarks, shares of the side, `[side,side]` float32."""
    outside = np.ones((side, side), np.uint8)
    hull = cv2.convexHull(landmarks.astype(np.float32))
    cv2.fillConvexPoly(outside, np.floor(hull).astype(np.int32), 0)
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / np.float32(side)


def _blur(values: np.ndarray, scale: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), scale * len(values), borderType=cv2.BORDER_REFLECT)
