"""Filters and resizing of whole batches, each face with its own kernel or size. Pure functions of tensors on any device."""

import numpy as np
import torch


def send(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return numbers as a tensor on a device, float64 as float32, without waiting for what the device is doing."""
    tensor = torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def convolve(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Filter every image by its own kernel, what is outside mirrored about the outermost pixels.

    The work is done in the frequency domain, so that large kernels cost no more than small ones. The answer is that of
    `cv2.filter2D` for symmetric kernels, to 1e-5 of the values' range.

    Args:
        images: `[B,C,H,W]`, float32; H and W above the kernels' radius.
        kernels: `[B,K,K]`, float32, K odd.

    Returns:
        The filtered images, same shape and type.
    """
    height, width = images.shape[-2:]
    margin = kernels.shape[-1] // 2
    extent = [fast_length(side + 2 * margin) for side in (height, width)]
    padded = torch.nn.functional.pad(images, [margin] * 4, mode="reflect")
    spectra = torch.fft.rfft2(padded, s=extent)
    spectra *= torch.fft.rfft2(kernels, s=extent)[:, None]
    return torch.fft.irfft2(spectra, s=extent)[..., 2 * margin : 2 * margin + height, 2 * margin : 2 * margin + width]


def gaussian_kernels(radius: int, sigma_x: torch.Tensor, sigma_y: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return normalized Gaussians `[B,2*radius+1,2*radius+1]` as `degradation.gaussian_kernel`, to 1e-6; arguments `[B]`."""
    offsets = torch.arange(-radius, radius + 1, device=angle.device, dtype=torch.float32)
    x, y = offsets[None, None], offsets[None, :, None]
    sigma_x, sigma_y, cosine, sine = (value[:, None, None] for value in (sigma_x, sigma_y, angle.cos(), angle.sin()))
    along, across = (cosine * x + sine * y) / sigma_x, (cosine * y - sine * x) / sigma_y
    kernels = (-0.5 * (along.square() + across.square())).exp()
    return kernels / kernels.sum((1, 2), keepdim=True)


def resize(images: torch.Tensor, sizes: torch.Tensor, target: int, target_sizes: torch.Tensor) -> torch.Tensor:
    """Resize the upper left square of every image, as `cv2.resize` does with `INTER_LINEAR`, to 1e-4 of the values' range.

    Args:
        images: `[B,C,P,P]`, float32.
        sizes: `[B]`, sides of the squares that are resized, 1 .. P; the rest of an image does not matter but has to be finite.
        target: side Q of the answer.
        target_sizes: `[B]`, sides that the squares get, 1 .. Q.

    Returns:
        `[B,C,Q,Q]`, float32, in whose upper left are the answers; beside and below them are their last columns and rows.
    """
    places = torch.arange(target, device=images.device, dtype=torch.float32)
    places = torch.minimum(places, target_sizes[:, None] - 1)
    source = (places + 0.5) * (sizes / target_sizes)[:, None] - 0.5
    source = torch.minimum(source.clamp(min=0), sizes[:, None] - 1.0)
    centered = (2 * source + 1) / images.shape[-1] - 1  # -1 and 1 are the outer edges of the outermost pixels
    shape = len(images), target, target
    grid = torch.stack([centered[:, None, :].expand(shape), centered[:, :, None].expand(shape)], dim=-1)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def pick_rows(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of `[B,C,H,W]` images, `[B,C,P,W]`: each image's own, int64 `[B,P]`."""
    return images.gather(2, rows[:, None, :, None].expand(-1, images.shape[1], -1, images.shape[3]))


def pick_columns(images: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return columns of `[B,C,H,W]` images, `[B,C,H,P]`: each image's own, int64 `[B,P]`."""
    return images.gather(3, columns[:, None, None, :].expand(-1, images.shape[1], images.shape[2], -1))


def fast_length(least: int) -> int:
    """Return the first number from `least` on without prime factors above 5, which Fourier transforms are fast for."""
    rest = least
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return least if rest == 1 else fast_length(least + 1)
