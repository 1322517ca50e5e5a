"""How close restored faces are to clean ones.

Every function takes two batches of RGB images `[B,3,H,W]`, floating point in [0, 1], and returns float64: one number per
image, `[B]`, or one for the set; on the CPU where the device of the images has no float64. The arithmetic is done in float32 or
better whatever the dtype of the images.
"""

import torch
import torch.nn.functional as F

from ..imaging.pixels import LUMA
from ..imaging.tensors import check_images
from ..utils.devices import in_double
from .protocol import luma


NEEDED_BY = "This metric needs"
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
COARSE_SIZE = 16  # side of what the strongest degradation in training leaves of a face, pixels
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from the full size to a sixteenth of it
MS_SSIM_SMALLEST = SSIM_WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)  # side, pixels
SPECTRUM_FLOOR = 1e-9  # keeps the logarithm of nothing finite; a gray level of 8 bits has 1.5e-5


def psnr(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio, `10 log10(1 / mean((image - reference)^2))`, over all pixels and channels.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1].
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64, decibels; higher is closer, infinite for equal images.
    """
    check_images({"image": image, "reference": reference})
    return _decibels(in_double(image) - in_double(reference))


def psnr_y(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of the luma (ITU-R BT.601, studio range, see `protocol`) with a peak of 255.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1].
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64, decibels; higher is closer, infinite for equal images.
    """
    check_images({"image": image, "reference": reference})
    return _decibels((luma(image) - luma(reference)) / 255)


def coarse_psnr(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of both shrunk to 16 x 16 by averaging: does what any degradation leaves agree?

    Against the degraded face it tells whether a restoration is consistent with its input.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 16 pixels.
        reference: The clean or the degraded images, same shape and range.

    Returns:
        `[B]` float64, decibels; higher is closer, infinite for equal images.
    """
    _check_side(image, reference, COARSE_SIZE)
    return _decibels(F.adaptive_avg_pool2d(in_double(image) - in_double(reference), COARSE_SIZE))


def ssim(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al., 2004): Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03.

    The mean over the three channels and over all windows that lie within the image.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 11 pixels.
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64 in [-1, 1]; 1 for equal images.
    """
    _check_side(image, reference, SSIM_WINDOW)
    luminance, contrast = _similarities(in_double(image), in_double(reference))
    return (luminance * contrast).mean(dim=(1, 2, 3))


def ms_ssim(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Multi-scale structural similarity (Wang et al., 2003): SSIM's factors at five scales, each half of the last.

    A scale's mean contrast, and at the coarsest its mean SSIM, is raised to the scale's weight; where such a mean is negative
    it counts as 0. Images are halved by averaging 2 x 2 pixels, an odd row or column being left out. The mean over the three
    channels.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 176 pixels.
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64 in [0, 1]; 1 for equal images.
    """
    _check_side(image, reference, MS_SSIM_SMALLEST)
    images, references = in_double(image), in_double(reference)
    product = torch.ones(images.shape[:2], dtype=torch.float64, device=images.device)  # [B,3]
    for scale, weight in enumerate(MS_SSIM_WEIGHTS, start=1):
        luminance, similarity = _similarities(images, references)
        if scale == len(MS_SSIM_WEIGHTS):
            similarity = luminance * similarity
        product *= similarity.mean(dim=(2, 3)).clamp(min=0) ** weight
        images, references = F.avg_pool2d(images, 2), F.avg_pool2d(references, 2)
    return product.mean(dim=1)


def gradient_ratio(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How much fine detail there is compared with the clean face: 1 is as sharp, 0 is flat, above 1 noisier.

    With G(x) = mean(|x[i+1,j] - x[i,j]|) + mean(|x[i,j+1] - x[i,j]|), over pixels and channels, the value is
    G(image) / G(reference). It says nothing about whether the detail is the right one, so read it beside the others.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 2 pixels.
        reference: The clean images, same shape and range; none may be of one color only.

    Returns:
        `[B]` float64, at least 0.
    """
    check_images({"image": image, "reference": reference})
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"`image` must be at least 2 pixels a side, got {list(image.shape)}")
    gradient, reference_gradient = (
        x.diff(dim=-2).abs().mean(dim=(1, 2, 3)) + x.diff(dim=-1).abs().mean(dim=(1, 2, 3))
        for x in (in_double(image), in_double(reference))
    )
    if (reference_gradient == 0).any():
        flat = (reference_gradient == 0).nonzero().flatten().tolist()
        raise ValueError(f"`reference` must have some detail to compare with; images {flat} are of one color")
    return gradient / reference_gradient


def spectrum_distance(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """How far a set's power spectrum is from that of clean faces: too little fine detail, or too much, or noise.

    At every spatial frequency but 0 the natural logarithm of the luma's power is averaged over the set; the value is the
    mean over the frequencies of the absolute difference between the two averages. 1 means that the power is e times too
    high or too low. One face has another spectrum than the next, however clean both are, hence the sets.

    Args:
        images: The images to judge, RGB `[B,3,H,W]` in [0, 1].
        references: Clean images, same range and shape but for their number.

    Returns:
        A float64 scalar, at least 0; 0 for equal sets.
    """
    for name, faces in (("images", images), ("references", references)):
        check_images({name: faces})
    if images.shape[1:] != references.shape[1:]:
        received = f"{list(images.shape)} and {list(references.shape)}"
        raise ValueError(f"`images` and `references` must have the same size, got {received}")
    difference = _mean_log_power(images) - _mean_log_power(references)
    return difference.flatten()[1:].abs().mean()


def _decibels(difference: torch.Tensor) -> torch.Tensor:
    """Return the mean square of `[B,C,H,W]` against a peak of 1, `[B]`."""
    return -10 * difference.square().mean(dim=(1, 2, 3)).log10()


def _check_side(image: torch.Tensor, reference: torch.Tensor, smallest: int) -> None:
    check_images({"image": image, "reference": reference})
    if min(image.shape[-2:]) < smallest:
        raise ValueError(f"`image` must be at least {smallest} pixels a side, got {list(image.shape)}")


def _similarities(image: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return SSIM's two factors in every window, luminance and contrast with structure: `[B,3,H-10,W-10]` each."""
    offset = torch.arange(SSIM_WINDOW, dtype=image.dtype, device=image.device) - SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (offset / SSIM_SIGMA) ** 2)
    window = (window / window.sum()).expand(image.shape[1], 1, 1, -1)

    def mean(values: torch.Tensor) -> torch.Tensor:
        along = F.conv2d(values, window, groups=len(window))
        return F.conv2d(along, window.transpose(-1, -2), groups=len(window))

    mean_x, mean_y = mean(image), mean(reference)
    variances = mean(image * image) + mean(reference * reference) - mean_x**2 - mean_y**2
    covariance = mean(image * reference) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance, (2 * covariance + SSIM_C2) / (variances + SSIM_C2)


def _mean_log_power(images: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the luma's power at each frequency, averaged over the set: `[H,W]` for `[B,3,H,W]`."""
    exact = in_double(images)
    brightness = torch.einsum("bchw,c->bhw", exact, torch.tensor(LUMA, dtype=exact.dtype, device=exact.device))
    return (torch.fft.fft2(brightness, norm="ortho").abs().square() + SPECTRUM_FLOOR).log().mean(dim=0)
