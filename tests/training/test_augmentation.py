import cv2
import numpy as np
import pytest

from difface_diffusers.training.augmentation import AugmentationRanges, augment, mix

from .tiny import face


SIZE = 64


def dots(*centers):
    """A black image with white discs at (x, y)."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for center in centers:
        cv2.circle(image, center, 3, (255, 255, 255), -1)
    return image


def centroid(image):
    y, x = np.nonzero(image[..., 0] > 127)
    return np.array([x.mean(), y.mean()])


def centroids(ranges, center, count=200):
    return np.array(
        [centroid(augment(dots(center), AugmentationRanges(**ranges), np.random.default_rng(n))) for n in range(count)]
    )


def test_nothing_changes_unless_asked():
    image = face(0, SIZE, SIZE)
    np.testing.assert_array_equal(augment(image, AugmentationRanges(), np.random.default_rng(0)), image)


def test_a_mixed_face_has_regions_of_both():
    black, white = np.zeros((SIZE, SIZE, 3), np.float32), np.ones((SIZE, SIZE, 3), np.float32)
    masks = np.stack([mix(black, white, np.random.default_rng(seed))[..., 0] for seed in range(100)])
    assert masks.dtype == np.float32
    assert abs(masks.mean() - 0.5) < 0.03  # neither is preferred
    assert ((masks < 0.01) | (masks > 0.99)).mean() > 0.5  # most of it is one's or the other's
    assert np.abs(np.diff(masks, axis=-1)).max() < 0.35  # without a seam
    assert (masks.std(axis=(1, 2)) > 0.1).mean() > 0.9


def test_a_mix_repeats_and_keeps_what_both_have_in_common():
    first, second = (face(seed, SIZE, SIZE).astype(np.float32) / 255 for seed in (0, 1))
    second[:10] = first[:10]
    mixed, again, other = (mix(first, second, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(mixed, again)
    assert np.abs(mixed - other).mean() > 0.01
    np.testing.assert_allclose(mixed[:10], first[:10], atol=1e-6)
    assert (mixed >= np.minimum(first, second) - 1e-6).all() and (mixed <= np.maximum(first, second) + 1e-6).all()


def test_repeats_with_the_same_generator_and_leaves_its_input_alone():
    image = face(0, SIZE, SIZE)
    before = image.copy()
    ranges = AugmentationRanges(rotation=10, zoom=0.1, shift=0.1, warp=0.02, tone=0.3, tint=0.1)
    first, again, other = (augment(image, ranges, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 1
    np.testing.assert_array_equal(image, before)


def test_shift_is_in_widths_and_keeps_within_its_bound():
    moved = centroids({"shift": 0.1}, (32, 32)) - 32
    assert np.abs(moved).max() <= 6.5 and np.abs(moved).max(axis=0).min() > 5.5
    assert np.abs(moved.mean(axis=0)).max() < 1


def test_rotation_is_in_degrees_about_the_center():
    middle = (SIZE - 1) / 2
    offset = centroids({"rotation": 20}, (52, 32)) - middle
    angle = np.degrees(np.arctan2(offset[:, 1] - 0.5, offset[:, 0]))
    np.testing.assert_allclose(np.hypot(*offset.T), 20.5, atol=0.6)
    assert 18 < np.abs(angle).max() < 21.5
    assert abs(angle.mean()) < 2


def test_zoom_is_relative_to_the_center():
    radius = centroids({"zoom": 0.2}, (52, 32))[:, 0] - (SIZE - 1) / 2
    assert 0.79 < radius.min() / 20.5 < 0.85 and 1.15 < radius.max() / 20.5 < 1.21


def test_warp_moves_distant_points_on_their_own():
    ranges = AugmentationRanges(warp=0.03)
    left, right = [], []
    for n in range(200):
        warped = augment(dots((16, 32), (48, 32)), ranges, np.random.default_rng(n))
        left.append(centroid(warped[:, :32])[0] - 16)
        right.append(centroid(warped[:, 32:])[0] - 16)
    assert 0.8 < np.std(left) < 2.5 and 0.8 < np.std(right) < 2.5  # 0.03 widths are 1.9 pixels at the knots
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.3


@pytest.mark.parametrize(("name", "alike"), [("tone", True), ("tint", False)])
def test_colors_follow_an_exponent(name, alike):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    exponents = []
    for n in range(200):
        changed = augment(ramp, AugmentationRanges(**{name: 0.2}), np.random.default_rng(n))[0] / 255
        assert (changed[0] == 0).all() and (changed[-1] == 1).all()
        exponents.append(np.log(changed[128]) / np.log(128 / 255))
    exponents = np.log(exponents)
    assert 0.17 < np.abs(exponents).max() < 0.21
    assert (np.ptp(exponents, axis=1) < 1e-6).all() == alike


@pytest.mark.parametrize("name", ["rotation", "zoom", "shift", "warp", "tone", "tint"])
def test_refuses_a_negative_range(name):
    with pytest.raises(ValueError, match=f"`{name}` is -0.1; it must be at least 0"):
        AugmentationRanges(**{name: -0.1})


def test_refuses_a_share_above_1():
    with pytest.raises(ValueError, match=r"`mix` is 1\.5; it must be at most 1"):
        AugmentationRanges(mix=1.5)


def test_refuses_a_zoom_that_shrinks_to_nothing():
    with pytest.raises(ValueError, match=r"`zoom` is 1\.0; it must be below 1"):
        AugmentationRanges(zoom=1.0)
