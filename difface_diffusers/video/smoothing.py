"""Landmarks smoothed along a track, so that the crop of a face does not tremble."""

from collections.abc import Sequence

import numpy as np

from ..faces.alignment import estimate_similarity, transform


MOTION_SIGMA, FOUND_SIGMA = 4.0, 12.0  # of the windows in time, at full steadiness, frames
REACH = 3  # how far they go, in multiples of sigma
SLACK = 0.01  # how far a face that stands still may wander, at full steadiness; a share of the distance of its eyes


def smooth_landmarks(
    landmarks: Sequence[np.ndarray],
    seen: Sequence[bool],
    motions: Sequence[np.ndarray | None],
    steadiness: float,
) -> list[np.ndarray]:
    """Smooth a track over time, in both directions, so that nothing lags behind.

    How a face moves from frame to frame is best known from optical flow, where it is in the long run from where it is found. So
    the path that flow alone would take is smoothed little (it follows steady motion and acceleration), and what leads from
    it to where the face was found is smoothed much. A face that wanders by no more than `SLACK` all the while stands still.
    Positions beyond a frame in which the face is not seen do not count.

    Args:
        landmarks: per frame, `[5,2]`.
        seen: per frame, whether the face is there.
        motions: per frame, see `FaceTrack`.
        steadiness: 0, which leaves them as they are, .. 1.

    Returns:
        Per frame `[5,2]`.
    """
    smoothed = [np.asarray(points, np.float64) for points in landmarks]
    if steadiness == 0:
        return smoothed
    for start, stop in _runs(seen):
        found = np.stack(smoothed[start:stop])
        path = [found[0]]
        for before, after, motion in zip(found, found[1:], motions[start + 1 : stop], strict=False):
            path.append(transform(path[-1], estimate_similarity(before, after) if motion is None else motion))
        flowed = np.stack(path)
        steady = _smooth(flowed, MOTION_SIGMA * steadiness, order=2)
        steady += _smooth(found - flowed, FOUND_SIGMA * steadiness, order=1)
        slack = SLACK * steadiness * np.linalg.norm(steady[:, 1] - steady[:, 0], axis=-1).mean()
        mean = steady.mean(axis=0)
        if np.linalg.norm(steady - mean, axis=-1).max() <= slack:
            steady[:] = mean
        smoothed[start:stop] = list(steady)
    return smoothed


def _smooth(values: np.ndarray, sigma: float, order: int) -> np.ndarray:
    """Fit in each frame a polynomial over time to the frames around, weighted by a Gaussian; `[F,...]` in and out."""
    rows, reach = values.reshape(len(values), -1), round(REACH * sigma)
    smoothed = np.empty_like(rows)
    for index in range(len(rows)):
        low, high = max(0, index - reach), min(len(rows), index + reach + 1)
        times = np.arange(low, high) - index
        root = np.exp(-0.25 * np.square(times / sigma))[:, None]
        powers = np.stack([times**power for power in range(min(order + 1, high - low))], axis=1)
        fit, *_ = np.linalg.lstsq(powers * root, rows[low:high] * root, rcond=None)
        smoothed[index] = fit[0]
    return smoothed.reshape(values.shape)


def _runs(seen: Sequence[bool]) -> list[tuple[int, int]]:
    """Return where the face is seen without a break: first frame, and the one after the last."""
    edges = np.flatnonzero(np.diff([0, *map(int, seen), 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
