import cv2
import numpy as np
import pytest

from difface_diffusers.degradation.holes import (
    MASKS,
    SCRATCH_SEGMENTS,
    SCRATCHES,
    TRAINING_MASKS,
    expand_mask,
    half_mask,
    scratch_lines,
    training_mask,
)


def draws(kind, size, count=400):
    return np.stack([MASKS[kind](size, np.random.default_rng(seed)) for seed in range(count)])


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("size", [32, 128, 250])
def test_masks_are_binary_and_repeat(kind, size):
    mask = MASKS[kind](size, np.random.default_rng(3))
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(mask, MASKS[kind](size, np.random.default_rng(3)))


@pytest.mark.parametrize("size", [256, 128])
@pytest.mark.parametrize(
    ("kind", "mean", "deviation", "low", "high"),
    [
        ("irregular", 0.45, 0.22, 0.09, 0.79),
        ("box", 0.25, 0.11, 0.07, 0.44),
        ("outpainting", 0.31, 0.15, 0.08, 0.58),
        ("half", 0.5, 0, 0.5, 0.5),
        ("expand", 0.75, 0, 0.75, 0.75),
    ],
)
def test_as_much_is_missing_as_in_the_original(size, kind, mean, deviation, low, high):
    coverage = draws(kind, size).mean(axis=(1, 2))
    assert coverage.mean() == pytest.approx(mean, abs=0.04)
    assert coverage.std() == pytest.approx(deviation, abs=0.02)
    np.testing.assert_allclose(np.quantile(coverage, [0.05, 0.95]), [low, high], atol=0.05)


def test_boxes_keep_off_the_border_and_have_their_sides():
    masks = draws("box", 256)
    border = masks.copy()
    border[:, 10:-10, 10:-10] = 0
    assert not border.any()
    assert masks.any(axis=(0, 1))[10:-10].all() and masks.any(axis=(0, 2))[10:-10].all()
    rows = masks.any(axis=2).sum(axis=1)
    assert rows.min() >= 30


def test_outpainting_takes_strips_at_every_side():
    masks = draws("outpainting", 256)
    middle = masks[:, 128]
    left, right = middle[:, :128].sum(axis=1), middle[:, 128:].sum(axis=1)
    top, bottom = masks[:, :128, 128].sum(axis=1), masks[:, 128:, 128].sum(axis=1)
    strips = np.stack([left, top, right, bottom], axis=1)
    assert (strips.max(axis=1) >= 10).all()
    for strip in strips.T:
        assert strip[strip > 0].min() >= 10 and strip.max() <= 75
        assert 0.45 < (strip > 0).mean() < 0.65


def test_half_is_the_lower_or_the_right_one():
    masks = draws("half", 32, 100)
    lower, right = masks[:, -1, 0].astype(bool), masks[:, 0, -1].astype(bool)
    assert (lower ^ right).all() and 30 < lower.sum() < 70
    assert masks[lower][:, 16:].all() and not masks[lower][:, :16].any()
    assert half_mask(32, np.random.default_rng(0)).mean() == 0.5


def test_expand_keeps_the_middle():
    mask = expand_mask(256, np.random.default_rng(0))
    assert not mask[64:192, 64:192].any() and mask.sum() == 256**2 - 128**2


def test_training_draws_its_three_kinds_alike_often():
    coverage = np.array([training_mask(64, np.random.default_rng(seed)).mean() for seed in range(600)])
    mean = np.mean([draws(kind, 64, 200).mean() for kind in TRAINING_MASKS])
    assert coverage.mean() == pytest.approx(mean, abs=0.03)
    assert TRAINING_MASKS == ("irregular", "box", "outpainting")


def test_training_draws_scratches_as_often_as_it_is_told():
    masks = [training_mask(256, np.random.default_rng(seed), 0.25) for seed in range(400)]
    assert all(mask.any() for mask in masks)
    opened = [
        cv2.erode(mask, np.ones((20, 20), np.uint8)).any() for mask in masks
    ]  # where scratches cross they are wide too
    assert 0.19 < 1 - np.mean(opened) < 0.33


def test_scratches_are_thin_and_few_and_grow_with_the_face():
    large, small = draws("scratches", 256, 200), draws("scratches", 128, 200)
    assert 0.01 < large.mean() < 0.08 and large.mean() == pytest.approx(small.mean(), rel=0.3)
    lines = scratch_lines(256, np.random.default_rng(0)).reshape(SCRATCHES, SCRATCH_SEGMENTS, 5)
    assert (lines[:, 1:, :2] == lines[:, :-1, 2:4]).all()  # each segment begins where the last one ended
    counts = [(scratch_lines(64, np.random.default_rng(seed))[::SCRATCH_SEGMENTS, 4] > 0).sum() for seed in range(200)]
    assert set(counts) == set(range(1, SCRATCHES + 1))
