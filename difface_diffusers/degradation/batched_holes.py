"""The holes of `holes.training_mask` for whole batches on any device. They are drawn on the CPU as rectangles and lines."""

from dataclasses import dataclass

import numpy as np
import torch

from .batched_filters import send
from .holes import (
    BOX_MARGIN,
    BOX_SIDES,
    BOXES,
    BRUSHES,
    PADDING_SHARES,
    POLYLINES,
    REFERENCE_SIZE,
    SCRATCH_SEGMENTS,
    SCRATCHES,
    SEGMENT_LENGTHS,
    SEGMENTS,
    TRAINING_MASKS,
    scratch_lines,
)


CHUNK = 2**24  # pixels of lines that are painted at once


@dataclass(frozen=True)
class Holes:
    """What is missing in each face of a batch, in pixels.

    Attributes:
        rectangles: `[B,R,4]`, int64: first row, row behind the last, first column, column behind the last; equal for none.
        lines: `[B,L,5]`, float64: x and y of the start, x and y of the end, width; 0 for none.
    """

    rectangles: np.ndarray
    lines: np.ndarray


def draw_holes(size: int, count: int, rng: np.random.Generator, scratch_probability: float = 0.0) -> Holes:
    """Draw what is missing in `count` faces of `size` x `size` pixels, each as `training_mask` draws it."""
    kind = np.array(TRAINING_MASKS)[rng.integers(len(TRAINING_MASKS), size=count)]
    rectangles = np.where((kind == "box")[:, None, None], draw_boxes(size, count, rng), draw_strips(size, count, rng))
    irregular, scratched = kind == "irregular", rng.random(count) < scratch_probability
    strokes = np.where(irregular[:, None, None], draw_lines(size, count, rng), 0.0)
    scratches = np.zeros((count, SCRATCHES * SCRATCH_SEGMENTS, 5))
    for member in np.flatnonzero(scratched):
        scratches[member] = scratch_lines(size, rng)
    rectangles = np.where((irregular | scratched)[:, None, None], 0, rectangles)
    return Holes(rectangles, np.concatenate([strokes * ~scratched[:, None, None], scratches], axis=1))


def draw_boxes(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the rectangles `[count,BOXES,4]` of `box_mask`."""
    scale = size / REFERENCE_SIZE
    margin = round(scale * BOX_MARGIN)
    sides = np.rint(scale * rng.integers(BOX_SIDES[0], BOX_SIDES[1] + 1, (count, BOXES, 2))).astype(np.int64)
    first = rng.integers(margin, size - margin - sides + 1)
    taken = np.arange(BOXES) < rng.integers(1, BOXES + 1, (count, 1))
    ends = first + sides * taken[..., None]
    return np.stack([first[..., 0], ends[..., 0], first[..., 1], ends[..., 1]], axis=-1)


def draw_strips(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the rectangles `[count,4,4]` of `outpainting_mask`: at the left, at the top, at the right, at the bottom."""
    low, high = (int(share * size) for share in PADDING_SHARES)
    chosen = rng.random((count, 4)) < 0.5
    chosen |= ~chosen.any(axis=1, keepdims=True) & (np.arange(4) == rng.integers(4, size=(count, 1)))
    left, top, right, bottom = (rng.integers(low, high, (count, 4)) * chosen).T
    none, whole = np.zeros_like(left), np.full_like(left, size)
    strips = (
        (none, whole, none, left),
        (none, top, none, whole),
        (none, whole, size - right, whole),
        (size - bottom, whole, none, whole),
    )
    return np.stack([np.stack(strip, axis=-1) for strip in strips], axis=1)


def draw_lines(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the lines `[count,POLYLINES*SEGMENTS,5]` of `irregular_mask`."""
    scale, shape = size / REFERENCE_SIZE, (count, POLYLINES)
    mirrored = np.where(np.arange(POLYLINES) % 2 == 0, -1, 1)
    place = rng.integers(0, size, (*shape, 2))
    drawn = np.arange(POLYLINES) < rng.integers(1, POLYLINES + 1, (count, 1))
    segments = rng.integers(1, SEGMENTS + 1, shape) * drawn
    lines = []
    for segment in range(SEGMENTS):
        angle = mirrored * (0.01 + rng.integers(4, size=shape))
        length = scale * rng.integers(SEGMENT_LENGTHS[0], SEGMENT_LENGTHS[1] + 1, shape)
        width = np.maximum(1, np.rint(scale * rng.integers(BRUSHES[0], BRUSHES[1] + 1, shape))) * (segment < segments)
        step = length[..., None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        end = np.clip(place + step, 0, size).astype(np.int64)
        lines.append(np.concatenate([place, end, width[..., None]], axis=-1))
        place = end
    return np.stack(lines, axis=2).reshape(count, POLYLINES * SEGMENTS, 5)


def make_masks(holes: Holes, size: int, device: torch.device) -> torch.Tensor:
    """Return the masks `[B,1,size,size]`, float32, 1 where a face is missing.

    Of those with lines, up to two pixels in a hundred differ from what OpenCV draws: its edges and round ends are coarser.
    """
    places = torch.arange(size, device=device)
    first_row, last_row, first_column, last_column = send(holes.rectangles, device)[..., None].unbind(2)
    rows = (first_row <= places) & (places < last_row)
    columns = (first_column <= places) & (places < last_column)
    masks = (rows[..., :, None] & columns[..., None, :]).any(dim=1, keepdim=True).float()
    members, numbers = np.nonzero(holes.lines[..., 4])
    for start in range(0, len(members), count := max(1, CHUNK // size**2)):
        part = slice(start, start + count)
        painted = paint_lines(send(holes.lines[members[part], numbers[part]], device), size)
        masks.index_add_(0, send(members[part], device), painted[:, None].float())
    return masks.clamp(max=1)


def paint_lines(lines: torch.Tensor, size: int) -> torch.Tensor:
    """Return a mask `[L,size,size]`, bool, for each line, `[L,5]` as in `Holes`: true where `cv2.line` would paint."""
    places = torch.arange(size, device=lines.device, dtype=torch.float32)
    x, y, end_x, end_y, width = lines[:, None, None].unbind(-1)
    along_x, along_y = end_x - x, end_y - y
    from_x, from_y = places - x, places[:, None] - y
    share = (from_x * along_x + from_y * along_y) / (along_x.square() + along_y.square()).clamp(min=1)
    share = share.clamp(0, 1)
    distance = (from_x - share * along_x).square() + (from_y - share * along_y).square()
    radius = torch.where(width > 1, (width / 2).ceil(), 0.0) + 0.5  # so wide OpenCV paints them
    return distance <= radius.square()
