"""Landmarks smoothed along a track, so that the crop of a face does not tremble."""

from collections.abc import Sequence

import numpy as np


WIDEST = 4.0  # sigma of the window in time, frames
REACH = 3  # how far it goes, in multiples of sigma


def smooth_landmarks(landmarks: Sequence[np.ndarray], seen: Sequence[bool], steadiness: float) -> list[np.ndarray]:
    """Smooth a track over time, in both directions, so that nothing lags behind.

    In each frame a parabola is fitted to the positions around, weighted by a Gaussian in time; it follows steady motion and
    steady acceleration exactly. Positions beyond a frame in which the face is not seen do not count.

    Args:
        landmarks: per frame, `[5,2]`.
        seen: per frame, whether the face is there.
        steadiness: 0, which leaves them as they are, .. 1.

    Returns:
        Per frame `[5,2]`.
    """
    smoothed = [np.asarray(points, np.float64) for points in landmarks]
    sigma = WIDEST * steadiness
    if sigma == 0:
        return smoothed
    for start, stop in _runs(seen):
        positions = np.stack(landmarks[start:stop]).reshape(stop - start, -1)
        for index in range(stop - start):
            low, high = max(0, index - round(REACH * sigma)), min(stop - start, index + round(REACH * sigma) + 1)
            times = np.arange(low, high) - index
            weights = np.exp(-0.5 * np.square(times / sigma))
            powers = np.stack([times**power for power in range(min(3, high - low))], axis=1).astype(np.float64)
            root = np.sqrt(weights)[:, None]
            fit, *_ = np.linalg.lstsq(powers * root, positions[low:high] * root, rcond=None)
            smoothed[start + index] = fit[0].reshape(-1, 2)
    return smoothed


def _runs(seen: Sequence[bool]) -> list[tuple[int, int]]:
    """Return where the face is seen without a break: first frame, and the one after the last."""
    edges = np.flatnonzero(np.diff([0, *map(int, seen), 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
