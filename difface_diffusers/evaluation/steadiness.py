"""How steady a restored video is: does it change only where what it shows changes?"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np


RETURNS_WITHIN = 1.0  # pixels: where a point misses itself by more, followed there and back, it was covered


def warping_error(
    frames: Sequence[np.ndarray], reference: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
) -> float:
    """Mean absolute change of what is seen from frame to frame, where the reference says that it is the same.

    Every frame is moved by the optical flow of the reference (DIS; Kroeger et al., ECCV 2016) to the next one, and compared
    with it where nothing was covered, as in Lai et al. (ECCV 2018).

    Args:
        frames: RGB `[H,W,3]`, uint8 or float in [0,1], two at least.
        reference: the same of the clean video, or of the input; flow is found here.
        masks: of each frame what counts, `[H,W]` bool; all of it if `None`.

    Returns:
        In [0,1]; 0 if all moves as the reference does.

    Raises:
        ValueError: the two are not of one length and size, or of fewer than two frames.
    """
    _check(frames, reference)
    flow_finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors = []
    counted = [np.ones(frame.shape[:2], bool) for frame in frames] if masks is None else masks
    pairs = zip(pairwise(frames), pairwise(reference), counted[1:], strict=True)
    for (before, after), (clean_before, clean_after), mask in pairs:
        first, second = _to_gray(clean_before), _to_gray(clean_after)
        back = flow_finder.calc(second, first, None)  # where each pixel of the second frame was in the first
        forth = flow_finder.calc(first, second, None)
        visible = mask & (np.linalg.norm(back + _moved(forth, back), axis=-1) < RETURNS_WITHIN)
        change = np.abs(_unit(after) - _moved(_unit(before), back)).mean(axis=-1)
        errors.append(change[visible].mean() if visible.any() else 0.0)
    return float(np.mean(errors))


def still_error(frames: Sequence[np.ndarray]) -> float:
    """Mean absolute change from frame to frame of a clip in which nothing moves; in [0,1].

    Args:
        frames: RGB `[H,W,3]`, uint8 or float in [0,1], two at least.

    Raises:
        ValueError: there are fewer than two frames, or they differ in size.
    """
    _check(frames, frames)
    return float(np.mean([np.abs(_unit(after) - _unit(before)).mean() for before, after in pairwise(frames)]))


def landmark_jitter(landmarks: np.ndarray, side: float) -> float:
    """Mean length of the second difference of landmarks over time, as a share of the face's side: trembling, not motion.

    Args:
        landmarks: of frames that follow each other, `[F,L,2]`, pixels; three frames at least.
        side: of the aligned face, pixels.

    Raises:
        ValueError: there are fewer than three frames.
    """
    if len(landmarks) < 3:
        raise ValueError(f"`landmarks` are of {len(landmarks)} frames; at least 3 are needed.")
    return float(np.linalg.norm(np.diff(landmarks, 2, axis=0), axis=-1).mean() / side)


def _check(frames: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> None:
    if len(frames) != len(reference) or len(frames) < 2:
        raise ValueError(
            f"`frames` are {len(frames)} and `reference` {len(reference)}; both must be as many, 2 at least."
        )
    sizes = {frame.shape for frame in (*frames, *reference)}
    if len(sizes) > 1:
        raise ValueError(f"`frames` and `reference` have the shapes {sorted(sizes)}; all must be of one.")


def _unit(frame: np.ndarray) -> np.ndarray:
    return frame / np.float32(255) if frame.dtype == np.uint8 else frame.astype(np.float32)


def _to_gray(frame: np.ndarray) -> np.ndarray:
    return np.rint(cv2.cvtColor(_unit(frame), cv2.COLOR_RGB2GRAY) * 255).clip(0, 255).astype(np.uint8)


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return for each pixel what `picture` shows where `flow` leads from there."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return cv2.remap(picture, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_CUBIC)
