"""How close restored faces are to clean ones.

Every function takes two batches of RGB images `[B,3,H,W]`, floating point in [0, 1], and returns float64: one number per
image, `[B]`, or one for the set. The arithmetic is done in float32 or better whatever the dtype of the images.
"""

from collections.abc import Mapping

import torch

from ..extras import import_extra


NEEDED_BY = "This metric needs"
SSIM_BORDER = 5  # half of the window of 11 pixels; mirroring it needs images larger than that
SPECTRUM_FLOOR = 1e-9  # keeps the logarithm of nothing finite; a gray level of 8 bits has 1.5e-5
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def psnr(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio, `10 log10(1 / mean((image - reference)^2))`, over all pixels and channels.

    Needs the extra `metrics` (torchmetrics).

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1].
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64, decibels; higher is closer, infinite for equal images.
    """
    check_images({"image": image, "reference": reference})
    metric = import_extra("torchmetrics.functional.image", "metrics", NEEDED_BY).peak_signal_noise_ratio
    return metric(image.double(), reference.double(), data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al., 2004): Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03.

    The mean over the three channels and over all pixels, the image being mirrored at its border, as torchmetrics
    computes it; scikit-image and others treat borders otherwise and differ in the third digit. Needs the extra
    `metrics`.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 6 pixels.
        reference: The clean images, same shape and range.

    Returns:
        `[B]` float64 in [-1, 1]; 1 for equal images.
    """
    check_images({"image": image, "reference": reference})
    if min(image.shape[-2:]) <= SSIM_BORDER:
        raise ValueError(f"`image` must be at least {SSIM_BORDER + 1} pixels a side, got {list(image.shape)}")
    metric = import_extra("torchmetrics.functional.image", "metrics", NEEDED_BY).structural_similarity_index_measure
    # One image comes back as a scalar.
    return metric(image.double(), reference.double(), data_range=1.0, reduction="none").reshape(-1)


def gradient_ratio(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How much fine detail there is compared with the clean face: 1 is as sharp, 0 is flat, above 1 noisier.

    With G(x) = mean(|x[i+1,j] - x[i,j]|) + mean(|x[i,j+1] - x[i,j]|), over pixels and channels, the value is
    G(image) / G(reference). It says nothing about whether the detail is the right one, so read it beside the others.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 2 pixels.
        reference: The clean images, same shape and range; none may be of one colour only.

    Returns:
        `[B]` float64, at least 0.
    """
    check_images({"image": image, "reference": reference})
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"`image` must be at least 2 pixels a side, got {list(image.shape)}")
    gradient, reference_gradient = (
        x.diff(dim=-2).abs().mean(dim=(1, 2, 3)) + x.diff(dim=-1).abs().mean(dim=(1, 2, 3))
        for x in (image.double(), reference.double())
    )
    if (reference_gradient == 0).any():
        flat = (reference_gradient == 0).nonzero().flatten().tolist()
        raise ValueError(f"`reference` must have some detail to compare with; images {flat} are of one colour")
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


def check_images(batches: Mapping[str, torch.Tensor]) -> None:
    """Raise unless every batch is floating-point `[B,3,H,W]` in [0, 1], not empty, and all have one shape.

    Args:
        batches: The tensors to check under the names that the errors are to call them by.

    Raises:
        TypeError: One is not a floating-point tensor.
        ValueError: Wrong rank or channel count, empty, different shapes, or values outside [0, 1] or NaN.
    """
    for name, images in batches.items():
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            received = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
            raise TypeError(f"`{name}` must be a floating-point tensor, got {received}")
        if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
            raise ValueError(f"`{name}` must have the shape [B,3,H,W], not empty, got {list(images.shape)}")
        low, high = images.aminmax()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise ValueError(f"`{name}` must lie in [0, 1], got [{low:.4g}, {high:.4g}]")
    shapes = {name: list(images.shape) for name, images in batches.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        raise ValueError(f"all images must have the same shape, got {shapes}")


def _mean_log_power(images: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the luma's power at each frequency, averaged over the set: `[H,W]` for `[B,3,H,W]`."""
    luma = torch.einsum("bchw,c->bhw", images.double(), torch.tensor(LUMA, dtype=torch.float64, device=images.device))
    return (torch.fft.fft2(luma, norm="ortho").abs().square() + SPECTRUM_FLOOR).log().mean(dim=0)
