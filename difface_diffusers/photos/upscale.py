"""Enlarging the background: the photo around the restored faces."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from ..hub.originals.released_upscalers import RELEASED, check_denoising
from ..models.bundled import BUNDLED_UPSCALER
from .real_esrgan import RealESRGANUpscaler, find_network
from .swin2sr import Swin2SRUpscaler
from .tiles import OnTile, check_request


class Upscaler(Protocol):
    """What enlarges a photo; the functions and the class of this module do, and so may your own callable."""

    def __call__(self, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Enlarge a photo.

        Args:
            photo: `[H,W,3]`, RGB, uint8 or uint16, upright; it is not changed.
            size: height and width of the result in pixels, neither below the photo's.

        Returns:
            A new array `[*size,3]` of the photo's dtype.
        """
        ...


def upscale_lanczos(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge `[H,W,3]`, uint8 or uint16, to `[*size,3]` by OpenCV's Lanczos filter over 8 x 8 pixels.

    Raises:
        ValueError: another shape or dtype, or a `size` below the photo's.
    """
    check_request(photo, size)
    return cv2.resize(photo, (size[1], size[0]), interpolation=cv2.INTER_LANCZOS4)


def upscale_nearest(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge `[H,W,3]`, uint8 or uint16, to `[*size,3]` by repeating pixels; each takes the one below its center.

    Raises:
        ValueError: another shape or dtype, or a `size` below the photo's.
    """
    check_request(photo, size)
    # OpenCV's INTER_NEAREST_EXACT misses the centers on sides of tens of thousands, its INTER_NEAREST on all.
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for n, side in zip(size, photo.shape, strict=False))
    return photo[rows[:, None], columns]


NETWORKS = RealESRGANUpscaler, Swin2SRUpscaler
BACKGROUNDS: dict[str, Upscaler] = {"lanczos": upscale_lanczos, "none": upscale_nearest}
BUNDLED, BUNDLED_BLEND = "bundled", 0.7  # the share of it that is best to look at
ACCEPTED = f"{', '.join(map(repr, (BUNDLED, *BACKGROUNDS, *RELEASED)))}, or the file, folder or Hub id of a network"


def load_upscaler(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    denoise_strength: float = 1.0,
) -> Upscaler:
    """Return the upscaler of a name.

    Args:
        name: "bundled", the small network of this package (`BUNDLED_UPSCALER`); "lanczos"; "none" (`upscale_nearest`); a
            name, file, folder or Hub id of a Real-ESRGAN network, see `RealESRGANUpscaler.from_pretrained`; or the folder or
            Hub id of a Swin2SR network.
        device: where a network runs.
        dtype: of its weights; see `RealESRGANUpscaler.from_pretrained` and `Swin2SRUpscaler.from_pretrained`.
        denoise_strength: see `released_upscaler`.

    Raises:
        ImportError: see `Swin2SRUpscaler.from_pretrained`.
        OSError: nothing there, or a file that cannot be read.
        ValueError: see there, and `RealESRGANUpscaler.from_pretrained`.
    """
    check_denoising(name, denoise_strength)
    if name in BACKGROUNDS:
        return BACKGROUNDS[str(name)]
    network = find_network(BUNDLED_UPSCALER if name == BUNDLED else name, denoise_strength)
    if network is not None:
        return RealESRGANUpscaler(network, device=device, dtype=dtype)
    try:
        return Swin2SRUpscaler.from_pretrained(name, device, dtype)
    except OSError as error:
        raise OSError(f"{error} Accepted is {ACCEPTED}.") from error


def as_upscaler(background: str | Upscaler, device: torch.device) -> Upscaler:
    """Return an upscaler as it is, or the one of a name; of the networks loaded so the last stays in memory."""
    if not isinstance(background, str):
        return background
    return BACKGROUNDS.get(background) or _keep(background, device)


def with_progress(upscaler: Upscaler, on_tile: OnTile) -> Upscaler:
    """Return an upscaler that tells `on_tile` how far it is, if it is one of our networks; another as it is."""
    return partial(upscaler, on_tile=on_tile) if isinstance(upscaler, NETWORKS) else upscaler


def share_of(background: str | Upscaler, blend: float | None) -> float:
    """Return the share of a background: `blend`, or where that is `None` what is best; the rest is enlarged by Lanczos."""
    if blend is not None:
        return blend
    return BUNDLED_BLEND if background == BUNDLED else 1.0


_keep = lru_cache(maxsize=1)(load_upscaler)
