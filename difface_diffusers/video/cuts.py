"""Where a scene ends and another begins."""

from collections import deque

import cv2
import numpy as np


THUMBNAIL = 64  # longest side of what frames are compared by, pixels
BINS = 8  # of each color in a histogram
MEMORY = 12  # frames whose changes are known
# A cut is where the colors are others at once, and by far more than motion has changed them lately.
LEAST_CHANGE = 0.25  # share of the pixels that have another color than before, over all the picture
TIMES_AS_MUCH = 3.0  # as the median of the frames before


class CutFinder:
    """Tells for one frame after the other whether it begins a scene.

    What counts is how the colors of the whole picture are distributed, which motion changes little: histograms of the two
    frames' thumbnails, whose colors are softened so that noise moves few of them into another bin.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=MEMORY)

    def is_cut(self, frame: np.ndarray) -> bool:
        """Return whether a frame `[H,W,3]`, RGB uint8 or uint16, begins a scene; the first one does."""
        histogram = _histogram(frame)
        last, self._last = self._last, histogram
        if last is None:
            return True
        change = float(np.abs(histogram - last).sum() / 2)
        usual = float(np.median(self._changes)) if self._changes else 0.0
        if change > max(LEAST_CHANGE, TIMES_AS_MUCH * usual):
            self._changes.clear()
            return True
        self._changes.append(change)
        return False


def _histogram(frame: np.ndarray) -> np.ndarray:
    """Return shares of the pixels by color, each pixel shared among the bins next to it; sums up to 1."""
    height, width = frame.shape[:2]
    scale = THUMBNAIL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).reshape(-1, 3) / np.iinfo(frame.dtype).max
    places = small * (BINS - 1)
    low = np.floor(places).astype(int).clip(0, BINS - 2)
    upper = places - low
    histogram = np.zeros((BINS, BINS, BINS))
    for corner in range(8):
        steps = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        weights = np.where(steps, upper, 1 - upper).prod(axis=1)
        np.add.at(histogram, tuple((low + steps).T), weights)
    return histogram / len(small)
