import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from difface_diffusers.degradation.blind import DegradationRanges, degrade, shrunk_size
from difface_diffusers.degradation.test_sets import (
    Combination,
    blind_set,
    combinations,
    inpainting_set,
    restoration_set,
)
from tests.training.tiny import face


def clean(size=32):
    return face(7, size, size).astype(np.float32) / 255


# The paper's set for restoration


def test_4000_combinations_in_the_order_of_the_paper():
    """Quality turns slowest, then scale, noise, first sigma and angle; the second sigma is drawn."""
    found = combinations()
    assert len(found) == 4000
    for name, count in {"jpeg_quality": 5, "scale": 10, "noise_sigma": 5, "sigma_x": 4, "angle": 4}.items():
        assert set(Counter(getattr(entry, name) for entry in found).values()) == {4000 // count}
    drawn = random.Random(10000)
    for index, entry in enumerate(found):
        rest, angle = divmod(index, 4)
        rest, sigma_x = divmod(rest, 4)
        rest, noise = divmod(rest, 5)
        quality, scale = divmod(rest, 10)
        assert entry == Combination(
            jpeg_quality=30 + 10 * quality,
            scale=4 + 4 * scale,
            noise_sigma=(1, 5, 10, 15, 20)[noise],
            sigma_x=4 + 4 * sigma_x,
            angle=pytest.approx(angle * math.pi / 4),
            sigma_y=drawn.choice((4, 8, 12, 16)),
        )


def test_lengths_are_stated_for_512_pixels():
    combination = Combination(50, 8, 10, 4, 0.5, 16)
    at_512, at_128, at_32 = (combination.at(size) for size in (512, 128, 32))
    assert (at_512.sigma_x, at_512.sigma_y, at_512.downscale) == (4, 16, 8)
    assert (at_128.sigma_x, at_128.sigma_y, at_128.downscale) == (1, 4, 2)
    assert at_32.downscale == 1
    assert {(each.angle, each.noise_sigma, each.jpeg_quality) for each in (at_512, at_128)} == {(0.5, 10, 50)}


def test_noise_comes_from_one_stream():
    """The second face's noise is what NumPy's legacy generator draws after that of the first."""
    first, second = itertools.islice(restoration_set(64), 2)
    stream = np.random.RandomState(10000)
    for recipe, combination in zip((first, second), combinations(), strict=False):
        shape = (*shrunk_size(64, 64, combination.at(64).downscale), 3)
        expected = stream.standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(recipe.degrade.keywords["noise"], expected)


def test_a_set_repeats():
    faces = [[recipe.degrade(clean()) for recipe in itertools.islice(restoration_set(32), 30)] for _ in range(2)]
    np.testing.assert_array_equal(*faces)
    assert np.abs(faces[0][0] - faces[0][20]).max() > 0.02
    assert sum(1 for _ in restoration_set(32)) == 4000


def test_parameters_are_noted():
    recipe = next(restoration_set(512))
    assert recipe.parameters == {
        "jpeg_quality": 30, "scale": 4, "noise_sigma": 1, "sigma_x": 4, "angle": 0, "sigma_y": combinations()[0].sigma_y
    }  # fmt: skip
    assert recipe.mask is None


@pytest.mark.parametrize("size", [32, 64, 128, 512])
def test_parameters_are_noted_in_the_pixels_of_the_size(size):
    for recipe in itertools.islice(restoration_set(size), 0, 1000, 97):
        applied = recipe.degrade.keywords["degradation"]
        noted = recipe.parameters
        assert (noted["sigma_x"], noted["sigma_y"], noted["scale"]) == (
            applied.sigma_x,
            applied.sigma_y,
            applied.downscale,
        )
        assert (noted["jpeg_quality"], noted["noise_sigma"]) == (applied.jpeg_quality, applied.noise_sigma)
    first = next(restoration_set(size)).parameters
    assert (first["sigma_x"], first["scale"]) == (4 * size / 512, max(1, 4 * size / 512))


# Its set for holes


def test_500_holes_of_each_kind():
    recipes = list(inpainting_set(32))
    kinds = [recipe.parameters["mask"] for recipe in recipes]
    assert kinds == [kind for kind in ("box", "irregular", "expand", "half") for _ in range(500)]
    for recipe in recipes[::250]:
        assert recipe.parameters["missing"] == pytest.approx(recipe.mask.mean())
        degraded = recipe.degrade(clean())
        assert not degraded[recipe.mask == 1].any()
        np.testing.assert_array_equal(degraded[recipe.mask == 0], clean()[recipe.mask == 0])
    np.testing.assert_array_equal(
        [recipe.mask for recipe in recipes[::99]], [recipe.mask for recipe in itertools.islice(inpainting_set(32), 0, None, 99)]
    )  # fmt: skip


# Blind degradation


def test_blind_degradation_is_that_of_training():
    ranges = DegradationRanges(noise_sigma=(5.0, 9.0))
    for index, recipe in enumerate(itertools.islice(blind_set(32, seed=3, ranges=ranges), 4)):
        rng = np.random.default_rng([3, index])
        np.testing.assert_array_equal(recipe.degrade(clean()), degrade(clean(), ranges, rng))
        assert 5 <= recipe.parameters["noise_sigma"] <= 9
