"""The only place for conversion between pictures and tensors: PIL, arrays, ranges, EXIF, layout and size.

Inside the package an image is RGB, float32, `[3,H,W]` or `[B,3,H,W]`, in [0,1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps

from .photo_files import fitting_profile, pixels_of, reading, to_uint8


ACCEPTED = (
    "a PIL image, a NumPy array [H,W,3] or [N,H,W,3], a tensor [3,H,W] or [N,3,H,W], or a list of these;"
    " uint8 or float in [0,1]"
)
OUTPUT_TYPES = ("pil", "np", "pt")


def load_image(file: str | Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Read an image file completely, upright.

    Args:
        file: its path, or an open one.
        name: what an error calls it; `None` is its path.

    Raises:
        OSError: the file is missing, not an image, or cut short; the message names it.
    """
    with reading(name or str(file)), Image.open(file) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def pil_to_tensor(image: Image.Image) -> torch.Tensor:
    """Convert a PIL image of any mode but `F` to `[3,H,W]`.

    EXIF orientation is applied, gray becomes three equal channels, 16-bit gray keeps its precision, alpha is dropped.
    """
    if 0 in image.size:
        raise ValueError(f"`image` has size {image.size}; both sides must be at least 1 pixel.")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray; Pillow widens some of it to 32 bits
        gray = np.asarray(image).astype(np.float32) / 65535
        pixels = np.repeat(gray[..., None], 3, axis=-1)
        if pixels.min() < 0 or pixels.max() > 1:
            raise ValueError("`image` has integer levels outside 0 .. 65535; 8-bit and 16-bit images are accepted.")
    elif image.mode == "F":
        raise ValueError("`image` has the PIL mode F, whose range is undefined; convert it to 8 or 16 bits.")
    else:
        if "transparency" in image.info:
            image = image.convert("RGBA")
        pixels = np.asarray(image.convert("RGB")).astype(np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_tensors(image: Any) -> list[torch.Tensor]:
    """Convert whatever the pipeline accepts to a list of `[3,H,W]`, float32 in [0,1], one per picture.

    Raises:
        TypeError: not one of the accepted types.
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
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))
    return _check_tensor(tensor)


def _check_tensor(tensor: torch.Tensor) -> list[torch.Tensor]:
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


def split_channels(photo: Image.Image | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert a photograph to its colours, RGB `[H,W,3]`, and its alpha `[H,W]` if it has one; both uint8 or uint16.

    Args:
        photo: PIL image of any mode but `F`; or an array, uint8, uint16 or float in [0,1] (which becomes uint16):
            `[H,W]` gray, `[H,W,2]` gray and alpha, `[H,W,3]` RGB or `[H,W,4]` RGB and alpha. EXIF orientation is applied.

    Raises:
        TypeError: neither of the two.
        ValueError: another shape or type, empty, NaN or values out of range.
    """
    if isinstance(photo, Image.Image):
        try:
            photo = pixels_of(ImageOps.exif_transpose(photo))
        except ValueError as error:
            raise ValueError(f"`photo` cannot be used: {error}.") from error
    elif not isinstance(photo, np.ndarray):
        raise TypeError(f"`photo` is a {type(photo).__name__}; accepted is a PIL image or a NumPy array.")
    if photo.ndim not in (2, 3) or photo.shape[2:] not in ((), (2,), (3,), (4,)) or photo.size == 0:
        raise ValueError(
            f"`photo` is an array of shape {list(photo.shape)}; accepted is [H,W], [H,W,2], [H,W,3] or [H,W,4]."
        )
    if photo.dtype.kind == "f":
        low, high = photo.min(), photo.max()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise ValueError(f"`photo` has values from {low:.4g} to {high:.4g}; floats must lie in [0,1].")
        photo = np.rint(photo * 65535).astype(np.uint16)
    elif photo.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"`photo` is an array of {photo.dtype}; accepted is uint8, uint16, or float in [0,1].")
    channels = 1 if photo.ndim == 2 else photo.shape[2]
    alpha = photo[..., -1] if channels in (2, 4) else None
    if channels <= 2:
        gray = photo if channels == 1 else photo[..., 0]
        return np.repeat(gray[..., None], 3, axis=-1), alpha
    return photo[..., :3], alpha


def join_channels(
    rgb: np.ndarray, alpha: np.ndarray | None, like: Image.Image | np.ndarray, gray: bool
) -> Image.Image | np.ndarray:
    """Undo `split_channels`: return a picture of the form, depth and number of channels of `like`.

    Args:
        rgb: `[H,W,3]`, uint8 or uint16.
        alpha: `[H,W]` of the same type, or `None`.
        like: what was split. A PIL image's ICC profile, EXIF (upright now) and resolution are handed on.
        gray: whether a `like` of one colour channel stays so; all three channels are equal then.
    """
    was_gray = (
        like.mode in ("1", "L", "LA", "La", "I", "I;16")
        if isinstance(like, Image.Image)
        else like.shape[2:] in ((), (2,))
    )
    colours = rgb[..., 0] if gray and was_gray else rgb
    pixels = colours if alpha is None else np.dstack([colours, alpha])
    if isinstance(like, np.ndarray):
        return (pixels / 65535).astype(like.dtype) if like.dtype.kind == "f" else pixels
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        pixels = to_uint8(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    profile = fitting_profile(like.info.get("icc_profile"), len(image.getbands()))
    image.info = {key: value for key, value in (("icc_profile", profile), ("dpi", like.info.get("dpi"))) if value}
    exif = like.getexif()
    exif.pop(ExifTags.Base.Orientation, None)
    if exif:
        image.info["exif"] = exif.tobytes()
    return image
