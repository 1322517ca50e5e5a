"""Means over time of one face's pictures, each pixel followed by optical flow as far as that can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..faces.compositing import WEIGHTS
from ..faces.masks import smooth_step


LOOKAHEAD = 8  # frames after one that its mean has a share of
BLOCK = 8  # frames whose means are made together
SOFTNESS = 1.5  # sigma of the blur by which two pictures are compared, pixels of a face of 128
SAME, ANOTHER = (
    0.04,
    0.12,
)  # mean difference, on a scale of [0,1], up to which two pixels are one, and from which they are not
STILL = 1.15  # a pixel has not moved unless moving it lessens the difference by this factor


@dataclass
class _Sum:
    """Weighted sum of the pictures on one side, as the next frame sees it: `[S,S,3]` and the weights `[S,S,1]`."""

    values: np.ndarray
    weights: np.ndarray


class SteadyMean:
    """Takes a face's pictures one after the other and gives back their means over time, a few frames later.

    The weight of a neighboring frame falls by `memory` with each frame between, and pixel by pixel where what is seen there
    differs: a mouth that opens, a hand before the face. Both directions count alike, so nothing lags behind.

    Args:
        memory: weight of the next frame, 0, which gives back every picture as it is, .. below 1.
    """

    def __init__(self, memory: float) -> None:
        self._memory = np.float32(memory)
        self._waiting: list[np.ndarray] = []
        self._past: _Sum | None = None
        self._last: np.ndarray | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def add(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Take pictures `[S,S,3]`, float32 in [0,1]; return the means that are known by now, in the same order."""
        if self._memory == 0:
            return list(pictures)
        self._waiting += pictures
        means = []
        while len(self._waiting) >= BLOCK + LOOKAHEAD:
            means += self._mean_of(BLOCK)
        return means

    def finish(self) -> list[np.ndarray]:
        """Return the means of what has not been given back, and begin anew."""
        means = self._mean_of(len(self._waiting))
        self._past = self._last = None
        return means

    def _mean_of(self, count: int) -> list[np.ndarray]:
        """Return the means of the first waiting pictures, which wait no longer."""
        pictures = self._waiting[: count + LOOKAHEAD]
        future: _Sum | None = None
        after: list[_Sum | None] = []
        for index in range(len(pictures) - 1, -1, -1):
            after.append(future)
            if index > 0:
                future = self._seen_from(pictures[index - 1], pictures[index], future)
        after.reverse()
        means = []
        for picture, later in zip(pictures[:count], after, strict=False):
            earlier = None if self._last is None else self._seen_from(picture, self._last, self._past)
            sides = [side for side in (earlier, later) if side is not None]
            values = picture + sum(side.values for side in sides)
            means.append(values / (1 + sum(side.weights for side in sides)) if sides else picture)
            self._past, self._last = earlier, picture
        del self._waiting[:count]
        return means

    def _seen_from(self, picture: np.ndarray, neighbor: np.ndarray, beyond: _Sum | None) -> _Sum:
        """Return the sum of a neighboring picture and all beyond it, moved to where `picture` shows the same, and weighted."""
        values, weights = neighbor, np.ones((*neighbor.shape[:2], 1), np.float32)
        if beyond is not None:
            values, weights = values + beyond.values, weights + beyond.weights
        mean = values / weights
        flow = self._flow.calc(_to_gray(picture), _to_gray(mean), None)
        rows, columns = np.mgrid[: len(flow), : flow.shape[1]].astype(np.float32)
        places = columns + flow[..., 0], rows + flow[..., 1]
        stack = np.concatenate([mean, weights], axis=-1)
        moved = cv2.remap(stack, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        differences = [_difference(picture, candidate[..., :3]) for candidate in (stack, moved)]
        is_still = differences[0] <= STILL * differences[1]
        mean, weights = np.split(np.where(is_still[..., None], stack, moved), [3], axis=-1)
        trust = self._memory * smooth_step(ANOTHER, SAME, np.where(is_still, *differences))[..., None]
        return _Sum(mean * weights * trust, weights * trust)


def _to_gray(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture @ WEIGHTS, 0, 1) * 255).astype(np.uint8)


def _difference(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how much two pictures `[S,S,3]` differ around each pixel, `[S,S]`."""
    return cv2.GaussianBlur(np.abs(picture - other).mean(axis=-1), (0, 0), SOFTNESS * len(picture) / 128)
