import cv2
import numpy as np
import pytest

from difface_diffusers.degradation import blind as degradation
from difface_diffusers.degradation.blind import (
    DegradationRanges,
    apply_degradation,
    blur,
    degrade,
    draw_degradation,
    gaussian_kernel,
    halftone,
    to_8_bits,
    to_gray,
)

from ..training.tiny import face


# Each range is a point at which its step changes nothing, or little in the case of the JPEG.
NOTHING = {
    "blur_sigma": (0.001, 0.001),
    "downscale": (1.0, 1.0),
    "noise_sigma": (0.0, 0.0),
    "jpeg_quality": (100.0, 100.0),
}


def only(**ranges):
    return DegradationRanges(**NOTHING | ranges)


def clean(height=32, width=32):
    return face(7, height, width).astype(np.float32) / 255


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def without_jpeg(monkeypatch):
    monkeypatch.setattr(degradation, "jpeg", lambda image, quality: image)


# Kernel


def bell(radius, sigma):
    values = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return values / values.sum()


def test_isotropic_kernel_is_a_product_of_two_bells():
    kernel = gaussian_kernel(6, 1.7, 1.7, 0.0)
    assert kernel.shape == (13, 13)
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, np.outer(bell(6, 1.7), bell(6, 1.7)), atol=1e-7)


def test_x_is_the_column():
    np.testing.assert_allclose(gaussian_kernel(5, 3.0, 0.8, 0.0), np.outer(bell(5, 0.8), bell(5, 3.0)), atol=1e-7)


def test_kernel_turns_from_x_towards_y():
    kernel = gaussian_kernel(5, 3.0, 0.8, np.pi / 6)
    down_right, up_right = kernel[5 + 2, 5 + 3], kernel[5 - 2, 5 + 3]
    assert down_right > 10 * up_right
    np.testing.assert_allclose(gaussian_kernel(5, 3.0, 0.8, np.pi / 2), gaussian_kernel(5, 0.8, 3.0, 0.0), atol=1e-7)


@pytest.mark.parametrize("angle", [0.4, -1.1, 2.9])
def test_turned_kernel_is_the_density_of_the_turned_covariance(angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    precision = np.linalg.inv(turn @ np.diag([2.5**2, 0.9**2]) @ turn.T)
    expected = np.array(
        [[np.exp(-0.5 * np.array([x, y]) @ precision @ [x, y]) for x in range(-4, 5)] for y in range(-4, 5)]
    )
    np.testing.assert_allclose(gaussian_kernel(4, 2.5, 0.9, angle), expected / expected.sum(), atol=1e-7)


@pytest.mark.parametrize("angle", [0.3, -2.0])
def test_equal_sigmas_make_the_angle_idle(angle):
    np.testing.assert_allclose(gaussian_kernel(4, 1.3, 1.3, angle), gaussian_kernel(4, 1.3, 1.3, 0.0), atol=1e-8)


@pytest.mark.parametrize(("sigma_y", "angle"), [(1.3, 0.0), (1.3, 0.5), (0.4, 0.5)])
def test_blur_is_a_filter_of_the_kernel(sigma_y, angle):
    expected = cv2.filter2D(clean(30, 22), -1, gaussian_kernel(5, 1.3, sigma_y, angle))
    np.testing.assert_allclose(blur(clean(30, 22), 5, 1.3, sigma_y, angle), expected, atol=1e-6)


# Gray and levels


def test_gray_is_the_luma_in_three_channels():
    image = np.eye(3, dtype=np.float32)[None]  # a red, a green and a blue pixel
    np.testing.assert_allclose(to_gray(image)[0], np.repeat([[0.299], [0.587], [0.114]], 3, axis=1), atol=1e-6)


def test_8_bit_levels():
    image = np.array([-0.1, 0.4 / 255, 0.6 / 255, 99.6 / 255, 1.1])
    np.testing.assert_allclose(to_8_bits(image), np.array([0, 0, 1, 100, 255]) / 255, atol=1e-7)


# Halftone


@pytest.mark.parametrize(("pitch", "angle"), [(4.3, 0.1), (5.7, 0.4)])
def test_a_halftone_keeps_every_tone(pitch, angle):
    for tone in (0.1, 0.5, 0.8):
        printed = halftone(np.full((96, 96, 3), [tone, 0.3, 1 - tone], np.float32), pitch, angle)
        np.testing.assert_allclose(printed.mean((0, 1)), [tone, 0.3, 1 - tone], atol=0.02)


def test_a_halftone_is_of_full_ink_and_bare_paper():
    printed = halftone(np.full((64, 64, 3), 0.5, np.float32), 16.0, 0.3)
    assert printed.dtype == np.float32
    assert ((printed == 0) | (printed == 1)).mean() > 0.7  # the rest are edges of dots
    assert np.abs(printed[..., 0] - printed[..., 2]).mean() > 0.2  # each ink has its own screen


def test_dots_are_a_pitch_apart_and_turned_by_the_angle():
    angle = np.deg2rad(30)
    yellow = halftone(np.full((128, 128, 3), 0.7, np.float32), 8.0, angle)[..., 2]
    power = np.abs(np.fft.fft2(yellow - yellow.mean())) ** 2
    y, x = np.unravel_index(power[:64, :64].argmax(), (64, 64))
    assert (x, y) == (round(16 * np.cos(angle)), round(16 * np.sin(angle)))


def test_halftone_comes_first_and_only_when_asked_for(without_jpeg):
    image = clean(64, 64)
    printing = only(halftone_probability=1.0, halftone_pitch=(40.0, 40.0))
    draws = rng(3)
    drawn, noise = draw_degradation(printing, 64, 64, draws)
    assert drawn.halftone_pitch == 5.0  # 40 * 64 / 512
    assert 0 <= drawn.halftone_angle < np.pi / 2
    expected = halftone(image, drawn.halftone_pitch, drawn.halftone_angle)
    np.testing.assert_allclose(apply_degradation(image, drawn, noise), expected, atol=0.51 / 255)
    assert draw_degradation(only(), 64, 64, rng(3))[0].halftone_pitch == 0
    some = DegradationRanges(halftone_probability=0.5)
    printed = [draw_degradation(some, 32, 32, rng(seed))[0].halftone_pitch > 0 for seed in range(100)]
    assert 30 < sum(printed) < 70


def test_cut_ranges_keep_their_harmless_end():
    ranges = DegradationRanges((0.1, 10.1), (0.8, 32.8), (1.0, 21.0), (30.0, 100.0), halftone_probability=0.3)
    cut = ranges.cut(0.25)
    assert cut.blur_sigma == pytest.approx((0.1, 2.6))
    assert cut.downscale == pytest.approx((0.8, 8.8))
    assert cut.noise_sigma == pytest.approx((1.0, 6.0))
    assert cut.jpeg_quality == pytest.approx((82.5, 100.0))
    assert cut.halftone_probability == 0.3
    assert ranges.cut(1.0) == ranges


def test_mild_faces_are_spared_in_all_respects():
    def severities(probability):
        ranges = DegradationRanges(mild_probability=probability)
        drawn = [draw_degradation(ranges, 512, 512, rng(seed))[0] for seed in range(400)]
        return np.array(
            [
                [d.sigma_x / 15, (d.downscale - 0.8) / 31.2, d.noise_sigma / 20, (100 - d.jpeg_quality) / 70]
                for d in drawn
            ]
        )

    usual, mild, some = (severities(probability) for probability in (0.0, 1.0, 0.25))
    assert usual.mean() == pytest.approx(0.5, abs=0.03)
    assert mild.mean() == pytest.approx(0.25, abs=0.03)
    assert np.corrcoef(mild.T)[np.triu_indices(4, 1)].min() > 0.3
    assert some.mean() == pytest.approx(0.75 * 0.5 + 0.25 * 0.25, abs=0.03)
    assert (mild.max(axis=1) < 0.1).mean() == pytest.approx(0.1 + 0.1**4 * (0.1**-3 - 1) / 3, abs=0.04)


# The whole degradation


def test_same_shape_type_and_levels():
    image = clean(24, 40)
    degraded = degrade(image, DegradationRanges(), rng())
    assert degraded.shape == (24, 40, 3)
    assert degraded.dtype == np.float32
    levels = degraded * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert degraded.min() >= 0
    assert degraded.max() <= 1


def test_a_function_of_the_generator_alone():
    image = clean()
    before = image.copy()
    first = degrade(image, DegradationRanges(), rng(5))
    np.random.seed(1)  # noqa: NPY002  the global stream must not matter
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(degrade(image, DegradationRanges(), rng(5)), first)
    assert np.abs(degrade(image, DegradationRanges(), rng(6)) - first).max() > 0.02
    np.testing.assert_array_equal(image, before)


def test_nothing_happens_where_every_range_is_idle(without_jpeg):
    np.testing.assert_allclose(degrade(clean(), only(), rng()), clean(), atol=1e-6)


def test_flat_colors_keep_their_channels():
    image = np.broadcast_to(np.float32([0.2, 0.5, 0.8]), (32, 32, 3)).copy()
    degraded = degrade(image, DegradationRanges(noise_sigma=(0, 0), jpeg_quality=(95, 95)), rng())
    np.testing.assert_allclose(degraded, image, atol=3 / 255)


def test_steps_in_order(monkeypatch):
    image = clean(64, 48)
    ranges = DegradationRanges((9.0, 9.0), (20.0, 20.0), (6.0, 6.0), (50.0, 50.0))
    seed = next(seed for seed in range(9) if rng(seed).random(2)[1] >= 0.5)  # isotropic

    draws = rng(seed)
    draws.random(2)
    draws.random(1)
    blurred = cv2.sepFilter2D(image, -1, *2 * [bell(3, 9.0 * 48 / 512)])  # 20 * 48 / 512 is 1.9; the radius is 3
    shrink = 20.0 * 48 / 512
    small = cv2.resize(blurred, (int(48 / shrink), int(64 / shrink)), interpolation=cv2.INTER_LINEAR)
    noisy = (small + draws.standard_normal(small.shape, dtype=np.float32) * np.float32(6 / 255)).clip(0, 1)
    _, packed = cv2.imencode(".jpg", np.rint(noisy[..., ::-1] * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])
    unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    expected = np.rint(cv2.resize(unpacked, (48, 64), interpolation=cv2.INTER_LINEAR))

    levels = degrade(image, ranges, rng(seed)) * 255
    assert np.abs(levels - expected).max() <= 1.01
    assert np.abs(levels - expected).mean() < 0.02


@pytest.mark.parametrize(("drawn", "used"), [(30.9, 30), (75.0, 75), (1.99, 1)])
def test_quality_is_truncated(monkeypatch, drawn, used):
    qualities = []
    monkeypatch.setattr(degradation, "jpeg", lambda image, quality: qualities.append(quality) or image)
    degrade(clean(), only(jpeg_quality=(drawn, drawn)), rng())
    assert qualities == [used]
    assert type(qualities[0]) is int


def test_noise_is_colored_and_counted_in_8_bit_levels(without_jpeg):
    image = np.full((96, 96, 3), 0.5, dtype=np.float32)
    noise = degrade(image, only(noise_sigma=(10.0, 10.0)), rng()) - image
    assert np.std(noise) * 255 == pytest.approx(10, rel=0.03)
    assert abs(np.mean(noise)) * 255 < 0.3
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.05


def test_noise_is_clipped_before_the_jpeg(monkeypatch):
    seen = []
    monkeypatch.setattr(degradation, "jpeg", lambda image, quality: seen.append(image) or image)
    degrade(np.zeros((32, 32, 3), dtype=np.float32), only(noise_sigma=(20.0, 20.0)), rng())
    assert seen[0].min() == 0
    assert 0.01 < seen[0].max() < 0.5


def test_gray_is_left_to_the_data_set():
    degraded = degrade(clean(), DegradationRanges(gray_probability=1.0, noise_sigma=(0, 0)), rng())
    assert np.abs(degraded[..., 0] - degraded[..., 2]).max() > 0.1


# Ranges


def sizes_and_kernels(monkeypatch, size, draws=300):
    """Return the first size each of many draws is resized to, and the arguments of its kernel."""
    sizes, kernels = [], []
    resize = cv2.resize

    def spied_resize(image, target, **kwargs):
        sizes.append(target[0])
        return resize(image, target, **kwargs)

    def spied_blur(image, *arguments):
        kernels.append(arguments)
        return image

    monkeypatch.setattr(degradation.cv2, "resize", spied_resize)
    monkeypatch.setattr(degradation, "blur", spied_blur)
    generator = rng()
    for _ in range(draws):
        degrade(np.zeros((size, size, 3), dtype=np.float32), DegradationRanges(), generator)
    return np.array(sizes[::2]), np.array(kernels)


@pytest.mark.parametrize(
    ("size", "smallest", "largest"),
    [(128, 128 / 8, 128 / 0.8), (32, 32 / 2, 32 / 0.8)],  # 32 * 128 / 512 = 8; the 0.8 that enlarges does not change
)
def test_shrinking_follows_the_size(monkeypatch, without_jpeg, size, smallest, largest):
    sizes, _ = sizes_and_kernels(monkeypatch, size)
    assert sizes.min() >= int(smallest)
    assert sizes.max() <= largest
    assert sizes.min() <= 1.1 * smallest
    assert sizes.max() >= 0.9 * largest


@pytest.mark.parametrize(("size", "radius"), [(128, 5), (64, 3)])
def test_blur_follows_the_size(monkeypatch, without_jpeg, size, radius):
    _, kernels = sizes_and_kernels(monkeypatch, size)
    radii, sigma_x, sigma_y, angle = kernels.T
    assert set(radii) == {radius}
    for sigma in (sigma_x, sigma_y):
        assert 0.1 * size / 512 <= sigma.min() < 0.5 * size / 512
        assert 14.5 * size / 512 < sigma.max() <= 15 * size / 512
    turned = sigma_x != sigma_y
    assert 0.4 < turned.mean() < 0.6
    assert not angle[~turned].any()
    assert angle.min() < -3
    assert angle.max() > 3


def test_512_is_the_reference(monkeypatch, without_jpeg):
    sizes, kernels = sizes_and_kernels(monkeypatch, 512, draws=12)
    assert set(kernels[:, 0]) == {20}
    assert kernels[:, 1].max() > 8
    assert sizes.min() >= 16
    assert sizes.max() <= 640


@pytest.mark.parametrize("seed", range(3))
def test_a_face_loses_the_same_detail_at_every_size(seed):
    ranges = only(blur_sigma=(6.0, 6.0), downscale=(8.0, 8.0))
    y, x = np.mgrid[0:512, 0:512]
    texture = np.sin(2 * np.pi * x / 60) * np.sin(2 * np.pi * y / 90)
    big = (clean(512, 512) * 0.6 + 0.2 + 0.15 * texture[..., None]).astype(np.float32)
    small = cv2.resize(big, (128, 128), interpolation=cv2.INTER_AREA)
    shrunk = cv2.resize(degrade(big, ranges, rng(seed)), (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(degrade(small, ranges, rng(seed)) - shrunk).mean() < 0.004
    unscaled = only(blur_sigma=(6.0 * 4, 6.0 * 4), downscale=(8.0 * 4, 8.0 * 4))
    assert np.abs(degrade(small, unscaled, rng(seed)) - shrunk).mean() > 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blur_sigma", (0.0, 1.0)),
        ("blur_sigma", (2.0, 1.0)),
        ("downscale", (0.0, 2.0)),
        ("noise_sigma", (-1.0, 1.0)),
        ("noise_sigma", (0.0, 256.0)),
        ("jpeg_quality", (0.0, 50.0)),
        ("jpeg_quality", (50.0, 101.0)),
        ("jpeg_quality", (float("nan"), 50.0)),
        ("halftone_pitch", (0.5, 8.0)),
    ],
)
def test_impossible_ranges_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` is \(.*must be \(low, high\) within"):
        DegradationRanges(**{name: value})


@pytest.mark.parametrize("name", ["gray_probability", "mild_probability", "halftone_probability", "wear_probability"])
@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_impossible_probability_is_refused(name, probability):
    with pytest.raises(ValueError, match=rf"`{name}` is {probability}; it must be within 0 .. 1"):
        DegradationRanges(**{name: probability})
