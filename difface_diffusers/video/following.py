"""Following faces from frame to frame by optical flow, and telling whether one is still the same."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from ..faces.alignment import align, estimate_similarity, invert, scale_of, transform, warp


POINTS_A_SIDE = 9  # of the grid of points that are followed in a face
GRID = 0.2, 0.8  # where it lies, shares of the aligned face's side: brows to chin
WINDOW = 15  # side of what the flow compares around a point, pixels
RETURNS_WITHIN = 1.0  # pixels to which a good point comes back when it is followed forth and back
FEWEST_POINTS = 16  # that must agree on how a face has moved
AGREES_WITHIN = 1.5  # pixels
LOOKS_SIDE = 24  # of the thumbnail that faces are compared by, pixels
FAINTEST = 10.0  # contrast of a thumbnail, root of the sum of its squares, below which it shows nothing
MOST_GROWTH = 1.3  # of a face from one frame to the next


def follow(frames: Sequence[np.ndarray], landmarks: np.ndarray) -> list[np.ndarray]:
    """Follow a face from the first of some frames through the others, as far as it can be seen to move.

    A grid of points in the face is followed (pyramidal Lucas-Kanade); the similarity that most of those take that return to
    where they came from, when they are followed back, moves the landmarks.

    Args:
        frames: gray, uint8 `[H,W]`.
        landmarks: in the first frame, `[5,2]`; for the convention see `faces.alignment`.

    Returns:
        Landmarks in the second frame, the third and so on; fewer if the face is lost on the way.
    """
    followed = []
    for before, after in itertools.pairwise(frames):
        motion = _motion(before, after, landmarks)
        if motion is None:
            break
        landmarks = transform(landmarks, motion)
        followed.append(landmarks)
    return followed


def _motion(before: np.ndarray, after: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    """Return the similarity `[2,3]` by which a face moves between two frames; `None` if it cannot be told."""
    places = np.linspace(*GRID, POINTS_A_SIDE)
    grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    points = transform(grid, invert(align(landmarks, 1)))
    height, width = before.shape
    inside = ((points > 0) & (points < (width, height))).all(axis=1)
    if inside.sum() < FEWEST_POINTS:
        return None
    start = (points[inside] - 0.5).astype(np.float32)[:, None]  # OpenCV counts from the center of the first pixel
    window = (WINDOW, WINDOW)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, start.copy(), winSize=window)
    returned, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, moved.copy(), winSize=window)
    misses = np.linalg.norm(returned - start, axis=-1)[:, 0]
    good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (misses < RETURNS_WITHIN)
    if good.sum() < FEWEST_POINTS:
        return None
    _, agrees = cv2.estimateAffinePartial2D(
        start[good], moved[good], method=cv2.RANSAC, ransacReprojThreshold=AGREES_WITHIN
    )
    agrees = np.zeros(0, bool) if agrees is None else agrees[:, 0].astype(bool)
    if agrees.sum() < FEWEST_POINTS:
        return None
    motion = estimate_similarity(start[good][agrees, 0] + 0.5, moved[good][agrees, 0] + 0.5)
    return motion if 1 / MOST_GROWTH < scale_of(motion) < MOST_GROWTH else None


def looks_of(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return what a face looks like, so that the product of two such vectors is their correlation.

    Args:
        frame: gray, uint8 `[H,W]`.
        landmarks: `[5,2]`.

    Returns:
        `[LOOKS_SIDE**2]`, of mean 0 and length 1; next to 0 for what is quite even.
    """
    low, high = GRID
    to_part = align(landmarks, LOOKS_SIDE) / (high - low)
    to_part[:, 2] -= low * LOOKS_SIDE / (high - low)
    face = warp(frame.astype(np.float32), to_part, (LOOKS_SIDE, LOOKS_SIDE)).ravel()
    face -= face.mean()
    return face / max(float(np.linalg.norm(face)), FAINTEST)


def side_of(landmarks: np.ndarray) -> float:
    """Return the side of the square that is cut out around a face, pixels."""
    return 1 / scale_of(align(landmarks, 1))
