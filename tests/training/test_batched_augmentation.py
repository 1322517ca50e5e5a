import numpy as np
import pytest
import torch

from difface_diffusers.training.augmentation import (
    MIX_GRID,
    Augmentation,
    AugmentationRanges,
    apply_augmentation,
    draw_augmentation,
    mix,
)
from difface_diffusers.training.batched_augmentation import (
    Augmentations,
    apply_augmentations,
    draw_augmentations,
    mix_batch,
)

from .statistics import assert_same_distribution
from .tiny import face


FIELDS = tuple(Augmentation.__dataclass_fields__)
ALL = AugmentationRanges(rotation=10, zoom=0.2, shift=0.1, warp=0.02, tone=0.3, tint=0.2)


def together(draws):
    return Augmentations(**{name: np.stack([getattr(drawn, name) for drawn in draws]) for name in FIELDS})


def batch(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("size", [48, 33])
@pytest.mark.parametrize(
    "ranges",
    [
        AugmentationRanges(rotation=30),
        AugmentationRanges(zoom=0.3),
        AugmentationRanges(shift=0.4),
        AugmentationRanges(warp=0.05),
        AugmentationRanges(tone=0.5),
        AugmentationRanges(tint=0.5),
        ALL,
    ],
)
def test_the_same_happens_as_one_by_one(ranges, size):
    images, rng = [face(seed, size, size) for seed in range(8)], np.random.default_rng(1)
    draws = [draw_augmentation(ranges, rng) for _ in images]
    expected = batch([apply_augmentation(image, drawn) for image, drawn in zip(images, draws, strict=True)])
    answer = apply_augmentations(batch(images), together(draws))
    errors = (answer - expected).abs()
    assert errors.mean() < 0.5  # OpenCV before 5 reads at multiples of 1/32 pixels
    assert errors.max() <= 6
    assert answer.equal(answer.round()) and answer.min() >= 0 and answer.max() <= 255
    assert (expected - batch(images)).float().abs().mean() > 1  # something happened


def test_nothing_changes_unless_asked():
    images = batch([face(0, 32, 32)])
    drawn = draw_augmentations(AugmentationRanges(mix=0.5), 1, np.random.default_rng(0))
    assert apply_augmentations(images, drawn).equal(images.float())


def test_a_mix_is_that_of_the_one_by_one_path():
    first, second = ([face(seed + offset, 64, 64).astype(np.float32) / 255 for seed in range(6)] for offset in (0, 6))
    expected = [mix(*pair, np.random.default_rng(n)) for n, pair in enumerate(zip(first, second, strict=True))]
    knots = np.stack([np.random.default_rng(n).standard_normal((MIX_GRID,) * 2, dtype=np.float32) for n in range(6)])
    answer = mix_batch(batch(first), batch(second), torch.from_numpy(knots))
    errors = (answer - batch(expected)).abs()
    assert errors.mean() < 1e-4 and (errors > 1 / 255).float().mean() < 1e-3


@pytest.mark.parametrize("ranges", [ALL, AugmentationRanges(rotation=5, tone=0.4), AugmentationRanges(tint=0.1)])
def test_the_distributions_are_those_of_the_one_by_one_path(ranges):
    count, rng = 3000, np.random.default_rng(5)
    expected = together([draw_augmentation(ranges, rng) for _ in range(count)])
    drawn = draw_augmentations(ranges, count, np.random.default_rng(6))
    for name in FIELDS:
        values, others = getattr(drawn, name), getattr(expected, name)
        assert values.shape == others.shape and values.dtype == others.dtype
        assert_same_distribution(values.reshape(count, -1)[:, 0], others.reshape(count, -1)[:, 0])
        assert_same_distribution(values.reshape(count, -1)[:, -1], others.reshape(count, -1)[:, -1])
    logs = [np.log(values.exponents) for values in (drawn, expected)]
    np.testing.assert_allclose(*(np.cov(values.T) for values in logs), atol=0.002)


def test_draws_repeat_with_the_seed():
    first, again, other = (draw_augmentations(ALL, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert (getattr(first, name) != getattr(other, name)).any()
