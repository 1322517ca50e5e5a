import numpy as np
import pytest

from difface_diffusers.degradation import damages
from difface_diffusers.degradation.blind import to_gray
from difface_diffusers.degradation.jpeg import jpeg

from ..training.tiny import face


def clean(height=64, width=48):
    """A smooth face with fine texture, that no tone is clipped of."""
    texture = np.random.default_rng(1).uniform(-0.1, 0.1, (height, width, 3))
    return (0.15 + 0.7 * face(7, height, width) / 255 + texture).astype(np.float32)


def flat(level, height=96, width=96):
    return np.full((height, width, 3), level, np.float32)


def dot(size=33):
    image = np.zeros((size, size, 3), np.float32)
    image[size // 2, size // 2] = 1
    return image


def rng(seed=0):
    return np.random.default_rng(seed)


def luma(image):
    return image @ np.float32([0.299, 0.587, 0.114])


DAMAGES = {
    "defocus": lambda image: damages.defocus(image, 2.3),
    "motion_blur": lambda image: damages.motion_blur(image, 6.0, 0.4),
    "underexposed": lambda image: damages.expose(image, -0.7),
    "overexposed": lambda image: damages.expose(image, 0.7),
    "monochrome": lambda image: damages.monochrome(image, 0.1, -0.2),
    "grain": lambda image: damages.grain(image, 20.0, 0.8, rng()),
    "chroma_noise": lambda image: damages.chroma_noise(image, 20.0, 5.0, rng()),
    "fade": lambda image: damages.fade(image, (0.2, 0.1, 0.1), (0.9, 0.9, 0.8)),
    "crease": lambda image: damages.crease(image, 2, 2.0, 0.9, rng()),
    "scratch": lambda image: damages.scratch(image, 5, 1.5, 0.9, rng()),
    "dust": lambda image: damages.dust(image, 20, 1.5, 0.9, rng()),
    "thumbnail": lambda image: damages.thumbnail(image, 3.0, "bicubic"),
    "sharpen": lambda image: damages.sharpen(image, 2.0, 1.5),
    "resave": lambda image: damages.resave(image, 40, 1.5, 3, 5),
}
NOTHING = {
    "defocus": lambda image: damages.defocus(image, 0.0),
    "motion_blur": lambda image: damages.motion_blur(image, 0.0, 0.7),
    "expose": lambda image: damages.expose(image, 0.0),
    "grain": lambda image: damages.grain(image, 0.0, 1.0, rng()),
    "chroma_noise": lambda image: damages.chroma_noise(image, 0.0, 4.0, rng()),
    "fade": lambda image: damages.fade(image, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "no crease": lambda image: damages.crease(image, 0, 2.0, 1.0, rng()),
    "faint crease": lambda image: damages.crease(image, 2, 2.0, 0.0, rng()),
    "no scratch": lambda image: damages.scratch(image, 0, 1.0, 1.0, rng()),
    "faint scratch": lambda image: damages.scratch(image, 4, 1.0, 0.0, rng()),
    "no dust": lambda image: damages.dust(image, 0, 1.0, 1.0, rng()),
    "faint dust": lambda image: damages.dust(image, 9, 1.0, 0.0, rng()),
    "thumbnail": lambda image: damages.thumbnail(image, 1.0, "bicubic"),
    "sharpen": lambda image: damages.sharpen(image, 0.0, 2.0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_same_shape_type_and_range(damage):
    for image in (clean(), flat(0.0, 48, 64), flat(1.0, 48, 64)):
        before = image.copy()
        damaged = damage(image)
        assert damaged.shape == image.shape and damaged.dtype == np.float32
        assert damaged.min() >= 0 and damaged.max() <= 1 + 1e-6
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(damage(image), damaged)
    assert np.abs(damage(clean()) - clean()).mean() > 0.002


@pytest.mark.parametrize("damage", NOTHING.values(), ids=NOTHING)
def test_no_strength_changes_nothing(damage):
    np.testing.assert_allclose(damage(clean()), clean(), atol=1e-6)


# Optics


def test_defocus_spreads_a_point_over_a_disk():
    disk = damages.defocus(dot(), 5.0)[..., 0]
    y, x = np.mgrid[-16:17, -16:17]
    distance = np.hypot(x, y)
    np.testing.assert_allclose(disk[distance <= 4.5], 1 / (np.pi * 25), rtol=0.05)
    assert not disk[distance > 5.5].any()
    assert disk.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, 0.6])
def test_motion_spreads_a_point_over_a_line(angle):
    line = damages.motion_blur(dot(), 12.0, angle)[..., 0]
    y, x = np.mgrid[-16:17, -16:17]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    assert np.sqrt((line * along**2).sum() / line.sum()) == pytest.approx(12 / np.sqrt(12), rel=0.08)
    assert np.sqrt((line * across**2).sum() / line.sum()) < 0.5
    assert line.sum() == pytest.approx(1, abs=1e-5)


def test_motion_lowers_gradients_along_its_angle_only():
    moved, image = damages.motion_blur(clean(96, 96), 9.0, 0.0), clean(96, 96)
    ratios = [np.abs(np.diff(moved, axis=axis)).mean() / np.abs(np.diff(image, axis=axis)).mean() for axis in (0, 1)]
    down, right = ratios
    assert right < 0.25 < down
    stripes = np.repeat(np.random.default_rng(0).random((96, 1, 1), np.float32), 96, 1).repeat(3, 2)
    np.testing.assert_allclose(damages.motion_blur(stripes, 9.0, 0.0), stripes, atol=1e-5)


def test_a_stop_doubles_the_light():
    doubled = damages.expose(flat(0.5), 1.0)
    np.testing.assert_allclose(doubled**2.2, 2 * 0.5**2.2, rtol=1e-4)
    np.testing.assert_allclose(damages.expose(doubled, -1.0), 0.5, rtol=1e-5)
    np.testing.assert_array_equal(damages.expose(flat(0.9), 1.0), 1)


# Film and sensor


def test_an_ink_keeps_the_luma():
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    sepia = damages.monochrome(image, 0.12, -0.2)
    np.testing.assert_allclose(luma(sepia), luma(image), atol=1e-5)
    np.testing.assert_allclose(damages.monochrome(sepia, 0.12, -0.2), sepia, atol=1e-5)
    np.testing.assert_allclose(damages.monochrome(image, 0.0, 0.0), to_gray(image), atol=1e-6)
    red, green, blue = damages.monochrome(flat(0.5), 0.12, -0.2)[0, 0]
    assert (red, blue) == (pytest.approx(0.62), pytest.approx(0.3)) and blue < green < red
    for level in (0.0, 1.0):
        np.testing.assert_allclose(damages.monochrome(flat(level), 0.12, -0.2), level, atol=1e-6)


def test_grain_is_gray_and_strongest_in_mid_tones():
    noise = damages.grain(flat(0.5), 10.0, 0.8, rng()) - flat(0.5)
    assert np.std(noise) * 255 == pytest.approx(10, rel=0.02)
    assert abs(noise.mean()) < 1e-3
    np.testing.assert_allclose(noise[..., 0], noise[..., 2], atol=1e-6)
    bright = damages.grain(flat(0.9), 10.0, 0.8, rng()) - flat(0.9)
    assert 0.2 < bright.std() / noise.std() < 0.8


def test_grains_are_as_large_as_they_should():
    def likeness(size):
        noise = damages.grain(flat(0.5), 8.0, size, rng())[..., 0] - 0.5
        return np.corrcoef(noise[:, :-2].ravel(), noise[:, 2:].ravel())[0, 1]

    assert likeness(0.2) == pytest.approx(0, abs=0.05)
    for size in (1.0, 2.0):
        assert likeness(size) == pytest.approx(np.exp(-((2 / (2 * size)) ** 2)), abs=0.1)  # of blurred white noise


def test_blotches_have_no_luma():
    blotched = damages.chroma_noise(flat(0.5), 10.0, 8.0, rng())
    np.testing.assert_allclose(luma(blotched), 0.5, atol=1e-5)
    assert 0.5 < (blotched[..., 0] - 0.5).std() * 255 / 10 < 1
    assert np.corrcoef(blotched[:, :-2, 0].ravel(), blotched[:, 2:, 0].ravel())[0, 1] > 0.8


# Age


def test_fading_turns_black_and_white_into_colors():
    black, white = (0.2, 0.1, 0.05), (0.95, 0.9, 0.7)
    np.testing.assert_allclose(damages.fade(flat(0.0), black, white)[0, 0], black, atol=1e-6)
    np.testing.assert_allclose(damages.fade(flat(1.0), black, white)[0, 0], white, atol=1e-6)
    np.testing.assert_allclose(damages.fade(flat(0.5), black, white)[0, 0], np.add(black, white) / 2, atol=1e-6)


def test_scratches_are_thin_and_mostly_vertical():
    image = flat(0.5, 256, 256)
    changes = np.abs(damages.scratch(image, 6, 1.5, 1.0, rng(3)) - image)[..., 0]
    scratched = changes > 0.05
    assert 0.002 < scratched.mean() < 6 * 2.5 / 256
    assert np.abs(np.diff(changes, axis=0)).sum() < 0.3 * np.abs(np.diff(changes, axis=1)).sum()
    values = damages.scratch(image, 20, 1.5, 1.0, rng(3))
    assert values.min() < 0.1 and values.max() > 0.9


@pytest.mark.parametrize("count", [1, 4])
def test_each_scratch_adds_its_pixels(count):
    image = flat(0.0, 128, 4096)  # so wide that hardly two meet
    drawn = [np.abs(damages.scratch(image + 0.5, number, 1.0, 1.0, rng(1)) - 0.5)[..., 0] for number in (count, 8)]
    columns = [np.count_nonzero(np.diff((marks > 0).any(axis=0).astype(int)) == 1) for marks in drawn]
    assert columns == [count, 8]


def test_creases_go_from_edge_to_edge_and_are_light_with_a_shadow():
    image = flat(0.5, 128, 128)
    across = []
    for seed in range(12):
        change = damages.crease(image, 1, 2.0, 1.0, rng(seed))[..., 0] - 0.5
        assert change.max() > 0.3 and change.min() < -0.02
        assert change.max() > -change.min()
        rows, columns = (np.abs(change) > 0.02).any(axis=1).mean(), (np.abs(change) > 0.02).any(axis=0).mean()
        assert max(rows, columns) > 0.6  # one that is slanted may leave through a side
        assert (np.abs(change) > 0.02).mean() < 0.12
        across.append(columns > rows)
    assert 0 < sum(across) < 12


def test_dust_is_small_and_light_or_dark():
    image = flat(0.5, 256, 256)
    dusty = damages.dust(image, 40, 1.5, 1.0, rng(2))
    assert dusty.min() < 0.15 and dusty.max() > 0.85
    touched = np.abs(dusty - image)[..., 0] > 0.02
    assert 40 < touched.sum() < 40 * 60
    more = damages.dust(image, 80, 1.5, 1.0, rng(2))
    assert 1.5 < (np.abs(more - image)[..., 0] > 0.02).sum() / touched.sum() < 2.5
    faint = damages.dust(image, 40, 1.5, 0.3, rng(2))
    assert np.abs(faint - image).max() <= 0.3 * 0.5 + 0.01


@pytest.mark.parametrize(
    "draw",
    [
        lambda size, seed: damages.scratch(flat(0.5, size, size), 8, size / 64, 1.0, rng(seed)),
        lambda size, seed: damages.crease(flat(0.5, size, size), 3, size / 64, 1.0, rng(seed)),
        lambda size, seed: damages.dust(flat(0.5, size, size), 30, size / 64, 1.0, rng(seed)),
    ],
    ids=["scratch", "crease", "dust"],
)
def test_marks_cover_the_same_share_at_every_size(draw):
    small, large = (np.mean([np.abs(draw(size, seed) - 0.5).mean() for seed in range(6)]) for size in (64, 256))
    assert small == pytest.approx(large, rel=0.25)


# Files


def test_a_thumbnail_keeps_means_and_loses_detail():
    image = clean(64, 64)
    nearest = damages.thumbnail(image, 4.0, "nearest")
    blocks = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(nearest, blocks.repeat(4, 0).repeat(4, 1), atol=1e-5)
    smooth = damages.thumbnail(image, 4.0, "bilinear")
    assert np.abs(np.diff(smooth, axis=1)).max() < np.abs(np.diff(nearest, axis=1)).max()
    assert np.abs(damages.thumbnail(image, 4.0, "bicubic") - smooth).max() > 0.01


def test_sharpening_makes_halos():
    step = flat(0.3, 32, 64)
    step[:, 32:] = 0.6
    sharp = damages.sharpen(step, 1.5, 2.0)
    assert sharp[16, 31, 0] < 0.2 and sharp[16, 32, 0] > 0.7
    np.testing.assert_allclose(sharp[:, [0, -1]], step[:, [0, -1]], atol=1e-4)


def test_a_jpeg_whose_blocks_lie_elsewhere_is_another():
    image = clean(64, 64)
    single = jpeg(image, 30)
    np.testing.assert_array_equal(damages.resave(image, 30, 1.0, 0, 0), single)
    again, shifted = damages.resave(single, 30, 1.0, 0, 0), damages.resave(single, 30, 1.0, 3, 5)
    assert np.abs(again - single).mean() < 0.5 * np.abs(shifted - single).mean()
    assert np.abs(shifted - image).mean() < 0.1
    smaller = damages.resave(image, 100, 4.0, 3, 5)
    assert np.abs(np.diff(smaller, axis=1)).mean() < 0.5 * np.abs(np.diff(image, axis=1)).mean()
    assert np.abs(smaller.mean((0, 1)) - image.mean((0, 1))).max() < 0.01  # nothing is displaced
