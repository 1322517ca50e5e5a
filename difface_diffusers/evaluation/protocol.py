"""What every evaluation here keeps to, so that its figures can be compared: colors, rounding, sizes and seeds.

- An image is what its file shows: upright, RGB as stored (sRGB), alpha left out, rounded to 8 bits, then divided by 255.
- Nothing is resized: an image and its reference must have the same size. Only feature networks resize, each in its own way.
- Luma is Y of ITU-R BT.601 in studio range, 16 to 235 on a scale of 255, not rounded.
- PSNR has the peak 1 in RGB and 255 in luma. A mean of PSNR is a mean of decibels over the images.
- SSIM and MS-SSIM see windows that lie wholly within the image.
- Random subsets, where a metric draws any, come from `KID_SEED`.
"""

from pathlib import Path

import numpy as np
import torch

from ..imaging.files import read_photo
from ..imaging.pixels import split_channels, to_uint8
from ..utils.devices import in_double


LUMA_WEIGHTS = (65.481, 128.553, 24.966)  # of red, green and blue in [0, 1]
LUMA_BLACK = 16.0

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # the latter at most, and never more than a set holds
KID_SEED = 0

# The paper's test sets: the side of their faces, pixels, and their seeds.
RESTORATION_SIZE, RESTORATION_SEED = 512, 10000
INPAINTING_SIZE, INPAINTING_SEED = 256, 12345


def read_image(path: str | Path) -> torch.Tensor:
    """Read an image file as the protocol says: RGB `[1,3,H,W]`, float32 on the levels k/255.

    Raises:
        OSError: the file is missing, not an image, or cut short; the message names it.
    """
    rgb, _ = split_channels(read_photo(path).pixels)
    pixels = np.ascontiguousarray(to_uint8(rgb).transpose(2, 0, 1))
    return torch.from_numpy(pixels)[None].float() / 255


def luma(images: torch.Tensor) -> torch.Tensor:
    """Return Y of ITU-R BT.601 in studio range: `[B,1,H,W]` float64, 16 to 235, for RGB `[B,3,H,W]` in [0, 1]."""
    exact = in_double(images)
    weights = torch.tensor(LUMA_WEIGHTS, dtype=exact.dtype, device=exact.device)
    return LUMA_BLACK + torch.einsum("bchw,c->bhw", exact, weights)[:, None]
