"""The holes that an inpainting estimator is trained and tested with (DifFace, section 4.4), and scratches.

A mask is `[S,S]`, float32, 1 where the face is missing and 0 where it is known. All lengths are stated for faces of
256 x 256 pixels and change in proportion. All randomness comes from the NumPy generator that is passed in.
"""

from collections.abc import Callable

import cv2
import numpy as np


REFERENCE_SIZE = 256

POLYLINES, SEGMENTS = 6, 5  # at most
SEGMENT_LENGTHS, BRUSHES = (10, 209), (5, 104)
BOXES, BOX_SIDES, BOX_MARGIN = 4, (30, 150), 10
PADDING_SHARES = (0.04, 0.30)  # of the size; the upper one excluded
SCRATCHES, SCRATCH_SEGMENTS = 8, 12  # the former at most
SCRATCH_STEPS, SCRATCH_WIDTHS = (4.0, 30.0), (1, 7)
SCRATCH_TURN = 0.25  # radians, standard deviation of the turn between two segments


def irregular_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to six thick polylines, each of up to five segments."""
    mask = np.zeros((size, size), np.float32)
    scale = size / REFERENCE_SIZE
    for polyline in range(rng.integers(1, POLYLINES + 1)):
        x, y = rng.integers(0, size, 2)
        for _ in range(rng.integers(1, SEGMENTS + 1)):
            angle = 0.01 + rng.integers(4)
            if polyline % 2 == 0:
                angle = 2 * np.pi - angle
            length = scale * rng.integers(SEGMENT_LENGTHS[0], SEGMENT_LENGTHS[1] + 1)
            brush = max(1, round(scale * rng.integers(BRUSHES[0], BRUSHES[1] + 1)))
            end = np.clip((x + length * np.sin(angle), y + length * np.cos(angle)), 0, size).astype(int)
            cv2.line(mask, (int(x), int(y)), (int(end[0]), int(end[1])), 1.0, brush)
            x, y = end
    return mask


def box_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one to four boxes that keep off the border."""
    mask = np.zeros((size, size), np.float32)
    scale = size / REFERENCE_SIZE
    margin = round(scale * BOX_MARGIN)
    for _ in range(rng.integers(1, BOXES + 1)):
        height, width = (round(scale * side) for side in rng.integers(BOX_SIDES[0], BOX_SIDES[1] + 1, 2))
        top = rng.integers(margin, size - margin - height + 1)
        left = rng.integers(margin, size - margin - width + 1)
        mask[top : top + height, left : left + width] = 1
    return mask


def outpainting_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Take away a strip at one side or at several."""
    low, high = (int(share * size) for share in PADDING_SHARES)
    left, top, right, bottom = rng.integers(low, high, 4)
    chosen = rng.random(4) < 0.5
    if not chosen.any():
        chosen[rng.integers(4)] = True
    mask = np.zeros((size, size), np.float32)
    for strip, taken in zip(
        (np.s_[:, :left], np.s_[:top], np.s_[:, size - right :], np.s_[size - bottom :]), chosen, strict=True
    ):
        if taken:
            mask[strip] = 1
    return mask


def half_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Take away the lower or the right half."""
    mask = np.zeros((size, size), np.float32)
    mask[np.s_[size // 2 :] if rng.random() < 0.5 else np.s_[:, size // 2 :]] = 1
    return mask


def expand_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Leave nothing but the middle, half of the face in height and width."""
    mask = np.ones((size, size), np.float32)
    mask[size // 4 : size - size // 4, size // 4 : size - size // 4] = 0
    return mask


def scratch_lines(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one to eight thin, bent lines, segment by segment.

    Returns:
        int64 `[SCRATCHES*SCRATCH_SEGMENTS,5]`: x and y of the start, x and y of the end, width, pixels; a width of 0 for none.
    """
    scale = size / REFERENCE_SIZE
    start = rng.uniform(0, size, (SCRATCHES, 1, 2))
    step = scale * rng.uniform(*SCRATCH_STEPS, (SCRATCHES, 1, 1))
    turns = rng.normal(0, SCRATCH_TURN, (SCRATCHES, SCRATCH_SEGMENTS)).cumsum(axis=1)
    angle = rng.uniform(0, 2 * np.pi, (SCRATCHES, 1)) + turns
    way = step * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.concatenate([start, start + way.cumsum(axis=1)], axis=1)
    width = scale * rng.integers(SCRATCH_WIDTHS[0], SCRATCH_WIDTHS[1] + 1, (SCRATCHES, 1, 1))
    drawn = (np.arange(SCRATCHES) < rng.integers(1, SCRATCHES + 1))[:, None, None]
    width = np.broadcast_to(np.maximum(width, 1) * drawn, (SCRATCHES, SCRATCH_SEGMENTS, 1))
    return np.rint(np.concatenate([points[:, :-1], points[:, 1:], width], axis=-1)).astype(np.int64).reshape(-1, 5)


def scratches_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one to eight scratches."""
    mask = np.zeros((size, size), np.float32)
    for x, y, end_x, end_y, width in scratch_lines(size, rng).tolist():
        if width:
            cv2.line(mask, (x, y), (end_x, end_y), 1.0, width)
    return mask


MASKS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "irregular": irregular_mask,
    "box": box_mask,
    "outpainting": outpainting_mask,
    "half": half_mask,
    "expand": expand_mask,
    "scratches": scratches_mask,
}
TRAINING_MASKS = ("irregular", "box", "outpainting")  # drawn alike often


def training_mask(size: int, rng: np.random.Generator, scratch_probability: float = 0.0) -> np.ndarray:
    """Draw a mask that an estimator is trained with: scratches with a probability, else one of the paper's kinds."""
    scratched = scratch_probability > 0 and rng.random() < scratch_probability
    return MASKS["scratches" if scratched else TRAINING_MASKS[rng.integers(len(TRAINING_MASKS))]](size, rng)
