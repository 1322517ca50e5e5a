"""The only place for conversion of masks: PIL, arrays, tensors, size, and what lies under a mask.

Inside the package a mask is float32 `[1,H,W]` or `[B,1,H,W]` in [0,1]; 1 is missing, 0 is known.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .pixels import LUMA, channels_of, plain_array, upright_pixels
from .tensors import channels_first, check_dense, resize


ACCEPTED_MASKS = (
    "a PIL image, an array [H,W], [H,W,1], [H,W,3] or [N,H,W,1], a tensor [H,W], [1,H,W] or [N,1,H,W], or a list of"
    " these; bool, uint8, or float in [0,1]"
)


def black_pixels(picture: torch.Tensor) -> torch.Tensor:
    """Return the mask `[1,H,W]` of the pixels of `[3,H,W]` that are exactly black: what the original takes as missing.

    Raises:
        ValueError: no pixel is.
    """
    mask = (picture == 0).all(dim=0, keepdim=True).float()
    if not mask.any():
        raise ValueError("`mask_image` is None and no pixel of `image` is exactly black; give a mask.")
    return mask


def to_masks(
    mask_image: Any, pictures: list[torch.Tensor], threshold: float | None, invert: bool
) -> list[torch.Tensor]:
    """Convert whatever the inpainting pipeline accepts to one mask `[1,H,W]` per picture, of the picture's size.

    Args:
        mask_image: white is missing; one for all pictures, or one per picture. Colors count by their luma, what is
            transparent in a PIL image counts as black. `None`: the pixels that are exactly black.
        pictures: `[3,H,W]` in [0,1].
        threshold: values from here on become 1, others 0; `None` keeps soft edges.
        invert: white is known instead.

    Raises:
        TypeError: not one of the accepted types, a masked array, or a tensor that is not dense.
        ValueError: wrong shape or number, NaN, or values outside [0,1].
    """
    if mask_image is None:
        return [black_pixels(picture) for picture in pictures]
    return fit_masks(mask_image, [picture.shape[-2:] for picture in pictures], threshold, invert)


def fit_masks(
    mask_image: Any, sizes: list[Sequence[int]], threshold: float | None, invert: bool, name: str = "mask_image"
) -> list[torch.Tensor]:
    """Convert masks in any accepted form to one mask `[1,H,W]` for each of `sizes` (H, W); see `to_masks`.

    Args:
        mask_image: see `to_masks`, but not `None`.
        sizes: height and width of each picture.
        threshold: see `to_masks`.
        invert: see `to_masks`.
        name: of the argument, for the messages.
    """
    masks = _to_tensors(mask_image, name)
    if len(masks) == 1:
        masks = masks * len(sizes)
    if len(masks) != len(sizes):
        raise ValueError(f"`{name}` holds {len(masks)} masks; it must hold 1 or one per image, {len(sizes)}.")
    masks = [_fit(mask, size) for mask, size in zip(masks, sizes, strict=True)]
    if invert:
        masks = [1 - mask for mask in masks]
    return masks if threshold is None else [(mask >= threshold).float() for mask in masks]


def _to_tensors(mask_image: Any, name: str) -> list[torch.Tensor]:
    """Convert masks in any accepted form to a list of `[1,H,W]`."""
    if isinstance(mask_image, Image.Image):
        return _pil_to_masks(mask_image, name)
    if isinstance(mask_image, np.ndarray):
        return _array_to_masks(plain_array(mask_image, name), name)
    if isinstance(mask_image, torch.Tensor):
        check_dense(mask_image, name)
        return _check(mask_image[None] if mask_image.ndim == 2 else mask_image, mask_image, name)
    if isinstance(mask_image, Sequence) and not isinstance(mask_image, str | bytes):
        if not mask_image:
            raise ValueError(f"`{name}` is an empty list; accepted is {ACCEPTED_MASKS}.")
        return [tensor for entry in mask_image for tensor in _to_tensors(entry, name)]
    raise TypeError(f"`{name}` is a {type(mask_image).__name__}; accepted is {ACCEPTED_MASKS}.")


def mask_levels(pixels: np.ndarray) -> np.ndarray:
    """Convert a mask's pixels, as in `PhotoFile`, with all their bits to float32 `[H,W,1]` or `[H,W,3]` in [0,1].

    What is transparent becomes black.
    """
    channels = channels_of(pixels)
    levels = pixels.reshape(*pixels.shape[:2], channels).astype(np.float32) / np.iinfo(pixels.dtype).max
    colors = levels[..., : 3 if channels > 2 else 1]
    return colors * levels[..., -1:] if channels in (2, 4) else colors


def _pil_to_masks(mask: Image.Image, name: str) -> list[torch.Tensor]:
    pixels = upright_pixels(mask, name)
    return _check(channels_first(mask_levels(pixels)), pixels, name)


def _array_to_masks(array: np.ndarray, name: str) -> list[torch.Tensor]:
    if array.dtype != np.uint8 and array.dtype.kind not in "bf":
        raise ValueError(f"`{name}` is of {array.dtype}; accepted is {ACCEPTED_MASKS}.")
    with_channels = array[..., None] if array.ndim == 2 else array
    if with_channels.ndim not in (3, 4):
        raise ValueError(f"`{name}` is of shape {list(array.shape)}; accepted is {ACCEPTED_MASKS}.")
    return _check(channels_first(with_channels), array, name)


def _check(tensor: torch.Tensor, given: np.ndarray | torch.Tensor, name: str) -> list[torch.Tensor]:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3) or tensor.numel() == 0:
        raise ValueError(f"`{name}` is of shape {list(given.shape)}; accepted is {ACCEPTED_MASKS}.")
    if tensor.dtype == torch.uint8:
        tensor = tensor.float() / 255
    elif tensor.dtype == torch.bool:
        tensor = tensor.float()
    elif not tensor.is_floating_point():
        raise ValueError(f"`{name}` is of {given.dtype}; accepted is {ACCEPTED_MASKS}.")
    tensor = tensor.detach().float().cpu()
    low, high = (value.item() for value in tensor.aminmax())
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"`{name}` has values from {low:.4g} to {high:.4g}; float masks must lie in [0,1].")
    if tensor.shape[-3] == 3:
        luma = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]  # with which white stays exactly 1
        tensor = (tensor * luma).sum(dim=-3, keepdim=True).float()
    return list(tensor if tensor.ndim == 4 else tensor[None])


def _fit(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask
    return F.interpolate(mask[None], tuple(size), mode="bilinear", antialias=True)[0].clamp(0, 1)


def shrink_mask(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize a mask `[1,1,H,W]` so that every pixel of which any part is missing counts as missing; binary."""
    missing = (mask > 0).float()
    if tuple(mask.shape[-2:]) == tuple(size):
        return missing
    return (F.interpolate(missing, tuple(size), mode="bilinear", antialias=True) > 0).float()


def resize_known(picture: torch.Tensor, mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize what is known of a picture, drawing nothing out of the holes (normalized convolution, bicubic).

    Args:
        picture: `[1,3,H,W]` in [0,1].
        mask: `[1,1,H,W]`; all that is above 0 is missing.
        size: height and width of the answer.

    Returns:
        `[1,3,*size]` in [0,1]; 0 where nothing is known, so that the picture itself may hold anything there.
    """
    known = (mask == 0).float()
    weight = resize(known, size)
    return torch.where(weight > 0.5, resize(picture * known, size) / weight.clamp(min=0.5), 0.0).clamp(0, 1)
