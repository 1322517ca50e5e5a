"""ComfyUI's images and masks, made pictures for the package, and back.

An IMAGE is float32 `[B,H,W,C]` in [0,1], a MASK float32 `[B,H,W]` in [0,1].
"""

from collections.abc import Sequence

import numpy as np
import torch


NEAR = 1e-3  # of one of 255 levels: what division and multiplication may leave of a whole one


def to_photos(image: torch.Tensor) -> list[np.ndarray]:
    """Return one picture for each image of a batch, clipped to [0,1] as ComfyUI does when it saves one.

    Images that came from files of 8 bits are handed on in 8 bits, so that they come out as if the file had been restored.

    Args:
        image: IMAGE with 3 or 4 channels, the fourth alpha.

    Returns:
        Arrays `[H,W,C]`, uint8, or float32 in [0,1] where the levels are not those of 8 bits.

    Raises:
        ValueError: another shape, empty, or values that are no numbers.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or image.numel() == 0:
        raise ValueError(f"`image` is of shape {list(image.shape)}; accepted is [B,H,W,3] or [B,H,W,4], not empty.")
    image = image.detach().float().cpu().clamp(0, 1)
    if image.isnan().any():
        raise ValueError("`image` holds values that are no numbers (NaN).")
    return [_to_photo(picture) for picture in image]


def _to_photo(picture: torch.Tensor) -> np.ndarray:
    levels = picture * 255
    if (levels - levels.round()).abs().max() < NEAR:
        return levels.round().to(torch.uint8).numpy()
    return picture.numpy()


def to_image(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Return an IMAGE of pictures of one size, `[H,W,C]`, uint8 or float32 in [0,1]."""
    batch = [
        torch.from_numpy(np.ascontiguousarray(picture)).float() / (255 if picture.dtype == np.uint8 else 1)
        for picture in pictures
    ]
    return torch.stack(batch)


def to_masks(mask: torch.Tensor, count: int) -> list[np.ndarray]:
    """Return a mask for each of `count` images, `[H,W]` float32 in [0,1].

    Args:
        mask: MASK, one for all images or one for each, or a single `[H,W]`.
        count: of the images.

    Raises:
        ValueError: another shape or number, or nothing is marked in any of them.
    """
    masks = mask[None] if mask.ndim == 2 else mask
    if masks.ndim != 3 or masks.numel() == 0:
        raise ValueError(f"`mask` is of shape {list(mask.shape)}; accepted is [B,H,W], not empty.")
    if len(masks) not in (1, count):
        raise ValueError(f"`mask` holds {len(masks)} masks for {count} images; it must hold 1 or {count}.")
    masks = masks.detach().float().cpu().clamp(0, 1)
    if not (masks >= 0.5).any():
        raise ValueError("`mask` marks nothing; paint over what is to be filled.")
    return [one.numpy() for one in masks.expand(count, -1, -1)]


def to_mask(areas: Sequence[np.ndarray]) -> torch.Tensor:
    """Return a MASK of areas of one size, `[H,W]` float32 in [0,1]."""
    return torch.from_numpy(np.stack(areas))
