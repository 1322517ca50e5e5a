import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.degradation import batched_holes as batched_masks
from difface_diffusers.degradation.batched_holes import (
    Holes,
    draw_boxes,
    draw_holes,
    draw_lines,
    draw_strips,
    make_masks,
)
from difface_diffusers.degradation.holes import MASKS, training_mask

from ..training.statistics import assert_same_distribution


CPU = torch.device("cpu")
NO_RECTANGLE, NO_LINE = np.zeros((1, 1, 4), np.int64), np.zeros((1, 1, 5))


def masks_of(rectangles, size):
    return make_masks(Holes(rectangles, np.zeros((len(rectangles), 1, 5))), size, CPU)[:, 0].numpy()


def test_a_rectangle_is_where_it_says():
    mask = make_masks(Holes(np.array([[[2, 5, 1, 8], [0, 0, 0, 0]]]), NO_LINE), 10, CPU)
    expected = torch.zeros(1, 1, 10, 10)
    expected[..., 2:5, 1:8] = 1
    assert mask.dtype == torch.float32 and mask.equal(expected)


@pytest.mark.parametrize("size", [64, 128])
def test_lines_are_those_of_opencv(size, monkeypatch):
    monkeypatch.setattr(batched_masks, "CHUNK", 100 * size**2)  # in several parts
    lines = draw_lines(size, 40, np.random.default_rng(0))
    masks = make_masks(Holes(np.repeat(NO_RECTANGLE, 40, axis=0), lines), size, CPU)[:, 0].numpy()
    for mask, face_lines in zip(masks, lines.astype(int).tolist(), strict=True):
        expected = np.zeros((size, size), np.float32)
        for x, y, end_x, end_y, width in face_lines:
            if width:
                cv2.line(expected, (x, y), (end_x, end_y), 1.0, width)
        assert np.abs(mask - expected).mean() < 0.025
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("width", range(1, 10))
def test_thin_lines_are_as_wide_as_those_of_opencv(width):
    rng = np.random.default_rng(width)
    ends = rng.integers(0, 128, (60, 1, 4))
    masks = make_masks(Holes(np.repeat(NO_RECTANGLE, 60, axis=0), np.insert(ends, 4, width, axis=-1)), 128, CPU)
    expected = np.zeros((60, 128, 128), np.float32)
    for mask, (x, y, end_x, end_y) in zip(expected, ends[:, 0].tolist(), strict=True):
        cv2.line(mask, (x, y), (end_x, end_y), 1.0, width)
    assert masks.mean().item() == pytest.approx(expected.mean(), rel=0.16)


@pytest.mark.parametrize("size", [64, 100])
@pytest.mark.parametrize(("kind", "draw"), [("box", draw_boxes), ("outpainting", draw_strips)])
def test_rectangles_cover_what_those_of_the_one_by_one_path_do(kind, draw, size):
    rng = np.random.default_rng(1)
    expected = np.stack([MASKS[kind](size, rng) for _ in range(600)])
    masks = masks_of(draw(size, 600, np.random.default_rng(2)), size)
    assert_same_distribution(masks.mean(axis=(1, 2)), expected.mean(axis=(1, 2)))
    np.testing.assert_allclose(masks.mean(axis=0), expected.mean(axis=0), atol=0.11)
    assert_same_distribution(masks.any(axis=2).sum(axis=1), expected.any(axis=2).sum(axis=1))
    assert_same_distribution(masks.any(axis=1).sum(axis=1), expected.any(axis=1).sum(axis=1))


@pytest.mark.parametrize("scratches", [0.0, 0.5, 1.0])
def test_all_kinds_cover_what_those_of_the_one_by_one_path_do(scratches):
    rng, size, count = np.random.default_rng(4), 64, 700
    expected = np.stack([training_mask(size, rng, scratches) for _ in range(count)])
    masks = make_masks(draw_holes(size, count, np.random.default_rng(5), scratches), size, CPU)
    assert masks.shape == (count, 1, size, size)
    masks = masks[:, 0].numpy()
    assert_same_distribution(masks.mean(axis=(1, 2)), expected.mean(axis=(1, 2)))
    np.testing.assert_allclose(masks.mean(axis=0), expected.mean(axis=0), atol=0.11)


def test_holes_repeat_with_the_seed():
    first, again, other = (draw_holes(64, 9, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.lines, again.lines)
    np.testing.assert_array_equal(first.rectangles, again.rectangles)
    assert (first.lines != other.lines).any() and (first.rectangles != other.rectangles).any()
