import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.evaluation import coarse_psnr, gradient_ratio, ms_ssim, psnr, psnr_y, spectrum_distance, ssim


ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut_clean.png"
ALL = (psnr, psnr_y, ssim, ms_ssim, gradient_ratio)


def batch(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def read_astronaut(size):
    face = cv2.cvtColor(cv2.imread(str(ASTRONAUT)), cv2.COLOR_BGR2RGB)
    face = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(face).permute(2, 0, 1)[None] / 255


def constant(*values, size=16):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, size, size)


# Numbers: PSNR, SSIM and MS-SSIM


def test_psnr_of_a_constant_offset():
    values = psnr(constant(0.5, 0.25, 1.0), constant(0.4, 0.5, 0.0))
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx([20.0, -20 * math.log10(0.25), 0.0], abs=1e-5)


def test_psnr_of_equal_images_is_infinite():
    image = batch(1, 3, 8, 8)
    assert psnr(image, image).tolist() == [math.inf]


def test_ssim_of_flat_images_is_the_luminance_term():
    a, b, c1 = np.array([0.5, 0.2, 0.7]), np.array([0.4, 0.8, 0.7]), 0.01**2
    values = ssim(constant(*a), constant(*b))
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), abs=1e-9)


def test_ssim_by_hand():
    """Of 13 x 15 pixels 3 x 5 windows lie within the image."""
    images = batch(2, 3, 13, 15).double()
    bell = torch.exp(-0.5 * (torch.arange(-5, 6).double() / 1.5) ** 2)
    weights = (torch.outer(bell, bell) / bell.sum() ** 2).flatten()
    x, y = images.unfold(2, 11, 1).unfold(3, 11, 1).flatten(4)  # [3,3,5,121], one window a pixel

    mean_x, mean_y = x @ weights, y @ weights
    variance_x, variance_y = (x * x) @ weights - mean_x**2, (y * y) @ weights - mean_y**2
    covariance = (x * y) @ weights - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    values /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    assert ssim(images[:1], images[1:]).item() == pytest.approx(values.mean().item(), abs=1e-9)


def test_luma_is_weighted_and_in_studio_range():
    """A pixel's share of pure green: 128.553 of 255 in luma."""
    black, green = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    green[:, 1] = 1.0
    assert psnr_y(green, black).item() == pytest.approx(-20 * math.log10(128.553 / 255))


def test_coarse_psnr_sees_what_is_left_of_16_pixels():
    """Stripes of one pixel vanish; what is brighter by 0.1 everywhere stays so."""
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 0.8
    flat = torch.full_like(stripes, 0.4)
    assert coarse_psnr(stripes, flat).item() > 100
    assert coarse_psnr(stripes, flat + 0.1).item() == pytest.approx(20, abs=1e-5)


def test_ms_ssim_of_flat_images_is_the_weighted_luminance_term():
    """Contrast and structure are 1 at every scale; the luminance counts at the last alone."""
    a, b, c1 = 0.5, 0.4, 0.01**2
    expected = ((2 * a * b + c1) / (a**2 + b**2 + c1)) ** 0.1333
    assert ms_ssim(constant(a, size=176), constant(b, size=176)).item() == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_of_opposites_is_0():
    image = batch(1, 3, 176, 180)
    assert ms_ssim(image, 1 - image).item() == 0


# Against independent implementations, on 20 pairs


def test_psnr_agrees_with_scikit_image(pairs):
    oracle = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    to_luma = pytest.importorskip("skimage.color").rgb2ycbcr
    arrays = [[image.double().permute(1, 2, 0).numpy() for image in pair] for pair in zip(*pairs, strict=True)]
    expected = [oracle(clean, image, data_range=1) for image, clean in arrays]
    assert psnr(*pairs).tolist() == pytest.approx(expected, abs=1e-9)
    expected = [oracle(to_luma(clean)[..., 0], to_luma(image)[..., 0], data_range=255) for image, clean in arrays]
    assert psnr_y(*pairs).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_agrees_with_scikit_image(pairs):
    oracle = pytest.importorskip("skimage.metrics").structural_similarity
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        oracle(*(image.double().permute(1, 2, 0).numpy() for image in pair), channel_axis=-1, **options)
        for pair in zip(*pairs, strict=True)
    ]
    assert ssim(*pairs).tolist() == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_agrees_with_pytorch_msssim(pairs):
    oracle = pytest.importorskip("pytorch_msssim").ms_ssim
    expected = oracle(*(images.double() for images in pairs), data_range=1, size_average=False)
    assert ms_ssim(*pairs).tolist() == pytest.approx(expected.tolist(), abs=1e-5)  # its window is of float32


@pytest.mark.parametrize("metric", [psnr, psnr_y, ssim, ms_ssim])
def test_another_reference_is_further_and_a_shifted_one_the_more_the_further(metric, pairs):
    images, references = (faces[:6] for faces in pairs)
    right = metric(images, references)
    assert (metric(images, references.roll(1, dims=0)) < right).all()
    scores = [metric(references, references.roll(shift, dims=-1)).mean() for shift in (1, 2, 4)]
    assert scores == sorted(scores, reverse=True)


# Numbers: gradients


def test_gradient_ratio_is_linear_in_contrast():
    reference = batch(2, 3, 9, 12)
    image = torch.stack([reference[0] * 0.5 + 0.25, reference[1] * 0.1])
    values = gradient_ratio(image, reference)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx([0.5, 0.1], rel=1e-5)


def test_gradient_ratio_by_hand():
    """One step of 0.6 between rows against one of 0.3 between columns, on 2 x 3 pixels."""
    image, reference = torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 2, 3)
    image[:, :, 1] = 0.6  # every vertical difference
    reference[:, :, :, 2] = 0.3  # every second horizontal difference
    assert gradient_ratio(image, reference).item() == pytest.approx(0.6 / (0.3 / 2), rel=1e-5)
    assert gradient_ratio(1 - image, reference).item() == pytest.approx(0.6 / (0.3 / 2), rel=1e-5)


def test_gradient_ratio_falls_with_blur_and_rises_with_noise():
    face = read_astronaut(128)
    blurred = torch.nn.functional.avg_pool2d(face, 3, stride=1, padding=1, count_include_pad=False)
    noisy = (face + 0.1 * torch.randn(face.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert gradient_ratio(blurred, face) < 0.8
    assert gradient_ratio(noisy, face) > 1.3


# Numbers: spectrum


def wave(cycles, amplitude, size=32):
    """A gray wave along the rows, `[1,3,S,S]`."""
    x = torch.arange(size, dtype=torch.float64) / size
    return (0.5 + amplitude * torch.sin(2 * math.pi * cycles * x)).expand(1, 3, size, size)


def test_spectrum_distance_of_weaker_contrast():
    """A tenth of the amplitude is a hundredth of the power: 2 ln 10 at every frequency; brightness does not count."""
    references = batch(2, 3, 16, 20)
    distance = spectrum_distance(references * 0.1 + 0.4, references)
    assert distance.dtype == torch.float64 and distance.shape == ()
    assert distance.item() == pytest.approx(2 * math.log(10), abs=0.01)
    assert spectrum_distance(references * 0.5, references).item() == pytest.approx(2 * math.log(2), abs=0.01)


def test_spectrum_distance_is_that_of_the_frequency():
    """Two of 1023 frequencies differ, +-5 cycles along the rows, by the factor 16 in power."""
    base = batch(1, 3, 32, 32) * 1e-3
    strong, weak = base + wave(5, 0.4), base + wave(5, 0.1)
    assert spectrum_distance(strong, weak).item() == pytest.approx(2 * math.log(16) / 1023, rel=1e-2)


def test_spectrum_distance_compares_sets_not_images():
    faces = batch(4, 3, 16, 16)
    faces[:2] = faces[:2] * 0.1 + 0.4
    assert spectrum_distance(faces.flip(0), faces).item() == pytest.approx(0, abs=1e-12)
    assert spectrum_distance(faces.repeat(2, 1, 1, 1), faces).item() == pytest.approx(0, abs=1e-12)
    # The logarithm is averaged, not the power: half of the faces with a hundredth of it are ln 10 apart.
    assert spectrum_distance(faces, torch.cat([(faces[:2] - 0.4) * 10, faces[2:]])).item() == pytest.approx(
        math.log(10), abs=0.01
    )


def test_spectrum_distance_grows_with_blur_and_with_noise():
    face = read_astronaut(128)
    blurred = torch.nn.functional.avg_pool2d(face, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    slight, strong = ((face + level * noise).clamp(0, 1) for level in (0.02, 0.1))
    assert spectrum_distance(blurred, face) > 0.5
    assert 0.05 < spectrum_distance(slight, face) < spectrum_distance(strong, face)


# Errors


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("image", "reference", "error", "message"),
    [
        (
            batch(2, 3, 16, 16),
            batch(1, 3, 16, 16),
            ValueError,
            r"same shape, got .*\[2, 3, 16, 16\].*\[1, 3, 16, 16\]",
        ),
        (batch(3, 16, 16), batch(3, 16, 16), ValueError, r"`image` must have the shape \[B,3,H,W\].*\[3, 16, 16\]"),
        (batch(1, 3, 16, 16), batch(1, 1, 16, 16), ValueError, r"`reference` must have the shape"),
        (batch(0, 3, 16, 16), batch(0, 3, 16, 16), ValueError, r"not empty, got \[0, 3, 16, 16\]"),
        (batch(1, 3, 16, 16) + 0.5, batch(1, 3, 16, 16), ValueError, r"`image` must lie in \[0, 1\], got \["),
        (batch(1, 3, 16, 16), batch(1, 3, 16, 16) - 0.5, ValueError, r"`reference` must lie in \[0, 1\]"),
        (constant(math.nan), constant(0.0), ValueError, r"`image` must lie in \[0, 1\], got \[nan"),
        (constant(1), constant(1), TypeError, r"`image` must be a floating-point tensor, got torch.int64"),
        (np.zeros((1, 3, 16, 16)), constant(1.0), TypeError, r"`image` must be a floating-point tensor, got ndarray"),
    ],
)
def test_refuses_bad_images(metric, image, reference, error, message):
    with pytest.raises(error, match=message):
        metric(image, reference)


@pytest.mark.parametrize(("metric", "smallest"), [(ssim, 11), (ms_ssim, 176), (coarse_psnr, 16)])
def test_refuses_images_too_small_for_the_window(metric, smallest):
    with pytest.raises(ValueError, match=rf"at least {smallest} pixels a side, got \[1, 3, {smallest - 1}, 180\]"):
        metric(batch(1, 3, smallest - 1, 180), batch(1, 3, smallest - 1, 180))
    assert metric(batch(1, 3, smallest, 180), batch(1, 3, smallest, 180, seed=1)).isfinite().all()


def test_refuses_a_single_row():
    with pytest.raises(ValueError, match="at least 2 pixels"):
        gradient_ratio(batch(1, 3, 1, 8), batch(1, 3, 1, 8))


def test_refuses_a_flat_reference():
    reference = batch(3, 3, 8, 8)
    reference[1] = 0.3
    with pytest.raises(ValueError, match=r"`reference` must have some detail.*images \[1\]"):
        gradient_ratio(batch(3, 3, 8, 8), reference)


def test_spectra_are_compared_at_one_size():
    with pytest.raises(ValueError, match=r"the same size, got \[1, 3, 16, 32\] and \[2, 3, 16, 16\]"):
        spectrum_distance(batch(1, 3, 16, 32), batch(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"`references` must lie in \[0, 1\]"):
        spectrum_distance(batch(1, 3, 16, 16), batch(1, 3, 16, 16) - 0.5)
