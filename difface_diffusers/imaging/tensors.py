"""The only place for conversion between pictures and tensors: PIL, arrays, ranges, layout and size.

Inside the package an image is RGB, float32, `[3,H,W]` or `[B,3,H,W]`, in [0,1].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .pixels import plain_array, split_alpha, upright_pixels


ACCEPTED = (
    "a PIL image, a NumPy array [H,W,3] or [N,H,W,3], a tensor [3,H,W] or [N,3,H,W], or a list of these;"
    " uint8 or float in [0,1]"
)
OUTPUT_TYPES = ("pil", "np", "pt")


def pil_to_tensor(image: Image.Image) -> torch.Tensor:
    """Convert a PIL image of any mode but `F` to `[3,H,W]`.

    EXIF orientation is applied, gray becomes three equal channels, 16-bit gray keeps its precision, alpha is dropped.

    Raises:
        ValueError: it has no pixels, or levels that are neither of 8 nor of 16 bits.
    """
    rgb, _ = split_alpha(upright_pixels(image, "image"))
    pixels = rgb.astype(np.float32) / np.iinfo(rgb.dtype).max
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_tensors(image: Any) -> list[torch.Tensor]:
    """Convert whatever the pipeline accepts to a list of `[3,H,W]`, float32 in [0,1], one per picture.

    Raises:
        TypeError: not one of the accepted types, a masked array, or a tensor that is not dense.
        ValueError: wrong rank or channel count, an empty picture or list, NaN, or values outside [0,1].
    """
    if isinstance(image, Image.Image):
        return [pil_to_tensor(image)]
    if isinstance(image, np.ndarray):
        return _array_to_tensors(image)
    if isinstance(image, torch.Tensor):
        return _check_tensor(image)
    if isinstance(image, Sequence) and not isinstance(image, str | bytes):
        if not image:
            raise ValueError(f"`image` is an empty list; accepted is {ACCEPTED}.")
        return [tensor for entry in image for tensor in to_tensors(entry)]
    raise TypeError(f"`image` is a {type(image).__name__}; accepted is {ACCEPTED}.")


def _array_to_tensors(array: np.ndarray) -> list[torch.Tensor]:
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(f"`image` is an array of shape {list(array.shape)}; accepted is [H,W,3] or [N,H,W,3].")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"`image` is an array of {array.dtype}; accepted is uint8, or float in [0,1].")
    return _check_tensor(channels_first(plain_array(array, "image")))


def channels_first(array: np.ndarray) -> torch.Tensor:
    """Copy `[...,H,W,C]`, of NumPy's own byte order, to a tensor `[...,C,H,W]`."""
    return torch.from_numpy(np.moveaxis(array, -1, -3).copy())


def check_dense(tensor: torch.Tensor, name: str) -> None:
    """Raise a `TypeError` that names the argument unless a tensor has a value in memory for each of its entries."""
    kinds = {
        "nested": tensor.is_nested,
        "meta": tensor.is_meta,
        "masked": isinstance(tensor, torch.masked.MaskedTensor),
        str(tensor.layout): tensor.layout is not torch.strided,
    }
    if found := [kind for kind, applies in kinds.items() if applies]:
        raise TypeError(f"`{name}` is a {found[0]} tensor; accepted is a dense one, with all its values.")


def _check_tensor(tensor: torch.Tensor) -> list[torch.Tensor]:
    check_dense(tensor, "image")
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3:
        raise ValueError(f"`image` is a tensor of shape {list(tensor.shape)}; accepted is [3,H,W] or [N,3,H,W].")
    if tensor.numel() == 0:
        raise ValueError(f"`image` is empty, of shape {list(tensor.shape)}; every side must be at least 1.")
    if tensor.dtype == torch.uint8:
        tensor = tensor.float() / 255
    elif not tensor.is_floating_point():
        raise ValueError(f"`image` is a tensor of {tensor.dtype}; accepted is uint8, or float in [0,1].")
    tensor = tensor.detach().float()
    low, high = (value.item() for value in tensor.aminmax())
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"`image` has values from {low:.4g} to {high:.4g}; float images must lie in [0,1].")
    return list(tensor if tensor.ndim == 4 else tensor[None])


def resize(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize `[B,C,H,W]` to `size` (height, width) by an antialiased bicubic, which may overshoot [0,1]."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image.float(), tuple(size), mode="bicubic", antialias=True, align_corners=False)


def from_tensors(images: list[torch.Tensor], output_type: str) -> Any:
    """Convert `[3,H,W]` in [0,1] to a list of PIL images, or to arrays or tensors.

    Args:
        images: one tensor per picture; the sizes may differ.
        output_type: "pil"; "np" for `[N,H,W,3]` float32; "pt" for `[N,3,H,W]`. Pictures of several sizes cannot be
            stacked: they come as a list of `[H,W,3]` or `[3,H,W]`.
    """
    if output_type == "pt":
        return torch.stack(images) if len({image.shape for image in images}) == 1 else images
    arrays = [image.permute(1, 2, 0).cpu().numpy() for image in images]
    if output_type == "np":
        return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
    return [Image.fromarray(np.rint(array * 255).astype(np.uint8)) for array in arrays]


def check_images(batches: Mapping[str, torch.Tensor]) -> None:
    """Raise unless every batch is floating-point `[B,3,H,W]` in [0, 1], not empty, and all have one shape.

    Args:
        batches: The tensors to check under the names that the errors are to call them by.

    Raises:
        TypeError: One is not a dense floating-point tensor.
        ValueError: Wrong rank or channel count, empty, different shapes, or values outside [0, 1] or NaN.
    """
    for name, images in batches.items():
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            received = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
            raise TypeError(f"`{name}` must be a floating-point tensor, got {received}")
        check_dense(images, name)
        if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
            raise ValueError(f"`{name}` must have the shape [B,3,H,W], not empty, got {list(images.shape)}")
        low, high = images.aminmax()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise ValueError(f"`{name}` must lie in [0, 1], got [{low:.4g}, {high:.4g}]")
    shapes = {name: list(images.shape) for name, images in batches.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        raise ValueError(f"all images must have the same shape, got {shapes}")
