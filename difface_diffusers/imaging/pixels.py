"""Pictures as arrays: from PIL and back, colors apart from alpha, 16 bits or 8."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as Tag

from .exif import EXIF_PREFIX, pack_exif, read_exif
from .orientation import noted_metadata, upright


STRIP_PIXELS = 2**18
LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in brightness, ITU-R BT.601


def strips(pixels: np.ndarray) -> Iterator[slice]:
    """Yield a few rows of `[H,W,...]` at a time, for work whose copies of a whole picture would fill the memory."""
    height, width = pixels.shape[:2]
    count = max(1, STRIP_PIXELS // width)
    return (slice(top, min(top + count, height)) for top in range(0, height, count))


def channels_of(pixels: np.ndarray) -> int:
    """Return 1 for `[H,W]`, C for `[H,W,C]`."""
    return 1 if pixels.ndim == 2 else pixels.shape[2]


def is_gray(image: Image.Image) -> bool:
    """Whether an image is of a mode with one color channel, of any depth, with or without alpha."""
    return Image.getmodebase(image.mode) == "L" and image.mode != "P"


def pixels_of(image: Image.Image) -> np.ndarray:
    """Convert an image as it lies to the arrays of `PhotoFile`.

    Raises:
        ValueError: it has no pixels, or its mode (32-bit `I`, `F`) no defined range.
    """
    image.load()
    if 0 in image.size:
        raise ValueError(f"it has no pixels, of size {image.size}")
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not deep:
        raise ValueError(f"its levels have no defined range (mode {image.mode}); convert them to 8 or 16 bits")
    if image.mode == "CMYK":
        image = _cmyk_to_srgb(image)
    elif not deep:
        mode = "L" if is_gray(image) else "RGB"
        mode += "A" if image.has_transparency_data else ""
        image = image if image.mode == mode else image.convert(mode)
    channels = len(image.getbands())
    shape = (image.height, image.width, channels)[: 3 if channels > 1 else 2]
    pixels = np.empty(shape, np.uint16 if deep else np.uint8)
    for rows in strips(pixels):
        pixels[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    return pixels


def upright_pixels(image: Image.Image, name: str) -> np.ndarray:
    """Convert an image of any mode but `F`, upright, to the arrays of `PhotoFile`.

    Levels of mode `I`, which may be those of 8 or of 16 bits, are of 8 if all of them could be.

    Args:
        image: the image.
        name: of the argument, for the messages.

    Raises:
        ValueError: it has no pixels, or levels that are neither of 8 nor of 16 bits.
    """
    is_deep = image.format == "PPM"  # which Pillow scales to 16 bits
    try:
        image = upright(image)
        if image.mode != "I" or 0 in image.size:
            return pixels_of(image)
        levels = np.asarray(image)
        low, high = levels.min(), levels.max()
        if low < 0 or high > 65535:
            raise ValueError(f"its levels, {low} .. {high}, lie outside 0 .. 65535; convert them to 8 or 16 bits")
    except ValueError as error:
        raise ValueError(f"`{name}` cannot be used: {error}.") from error
    return levels.astype(np.uint16 if is_deep or high > 255 else np.uint8)


def plain_array(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array of NumPy's own class and byte order, and its long doubles as doubles; not copied if it is such a one.

    Raises:
        TypeError: it is a masked array; the message calls it `name`.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` is a masked array; accepted is one without a mask of its own, as `filled` returns it."
        )
    return np.asarray(array, np.float64 if array.dtype.char == "g" else array.dtype.newbyteorder("="))


def split_alpha(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split `[H,W]`, `[H,W,2]`, `[H,W,3]` or `[H,W,4]` into RGB `[H,W,3]` and alpha, `[H,W]` or `None`."""
    channels = channels_of(pixels)
    alpha = pixels[..., -1] if channels in (2, 4) else None
    if channels <= 2:
        gray = pixels if channels == 1 else pixels[..., 0]
        return np.repeat(gray[..., None], 3, axis=-1), alpha
    return pixels[..., :3], alpha


def _cmyk_to_srgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profile = BytesIO(image.info.get("icc_profile") or b"")
    try:
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except ImageCms.PyCMSError:  # there is no profile, or none of CMYK
        return image.convert("RGB")
    return transform.apply(image)


def decode_with_opencv(data: np.ndarray) -> np.ndarray:
    """Decode a file's bytes, uint8 `[N]`, with all their bits: gray `[H,W]`, RGB `[H,W,3]` or RGBA `[H,W,4]`.

    Raises:
        OSError: it is broken, cut short or of a kind that OpenCV cannot read.
    """
    import cv2

    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise OSError(str(error)) from error
    if pixels is None:
        raise OSError("it is broken, cut short or compressed in an unusual way")
    if pixels.ndim == 3:
        for rows in strips(pixels):
            pixels[rows, :, :3] = pixels[rows, :, 2::-1]
    return pixels


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round uint16 `[H,W]` or `[H,W,C]` to uint8, 65535 to 255; uint8 is returned as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    rounded = np.empty(pixels.shape, np.uint8)
    for rows in strips(pixels):
        whole, rest = np.divmod(pixels[rows], 257)
        rounded[rows] = whole + (rest > 128)
    return rounded


def fitting_profile(profile: bytes | None, channels: int) -> bytes | None:
    """Return an ICC profile if it is one of gray for 1 or 2 channels, or of RGB for 3 or 4."""
    colors = b"GRAY" if channels < 3 else b"RGB "
    return profile if profile and profile[16:20] == colors else None


def split_channels(photo: Image.Image | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert a photograph to its colors, RGB `[H,W,3]`, and its alpha `[H,W]` if it has one; both uint8 or uint16.

    Args:
        photo: PIL image of any mode but `F`; or an array, uint8, uint16 or float in [0,1] (which becomes uint16):
            `[H,W]` gray, `[H,W,2]` gray and alpha, `[H,W,3]` RGB or `[H,W,4]` RGB and alpha. EXIF orientation is applied.

    Raises:
        TypeError: neither of the two, or a masked array.
        ValueError: another shape or type, empty, NaN or values out of range.
    """
    if isinstance(photo, Image.Image):
        photo = upright_pixels(photo, "photo")
    elif not isinstance(photo, np.ndarray):
        raise TypeError(f"`photo` is a {type(photo).__name__}; accepted is a PIL image or a NumPy array.")
    photo = plain_array(photo, "photo")
    if photo.ndim not in (2, 3) or photo.shape[2:] not in ((), (2,), (3,), (4,)) or photo.size == 0:
        raise ValueError(
            f"`photo` is an array of shape {list(photo.shape)}; accepted is [H,W], [H,W,2], [H,W,3] or [H,W,4]."
        )
    if photo.dtype.kind == "f":
        low, high = photo.min(), photo.max()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise ValueError(f"`photo` has values from {low:.4g} to {high:.4g}; floats must lie in [0,1].")
        deep = np.result_type(photo, np.float32)  # half precision ends below 65535
        photo = np.rint(np.multiply(photo, 65535, dtype=deep)).astype(np.uint16)
    elif photo.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"`photo` is an array of {photo.dtype}; accepted is uint8, uint16, or float in [0,1].")
    return split_alpha(photo)


def join_channels(
    rgb: np.ndarray, alpha: np.ndarray | None, like: Image.Image | np.ndarray, gray: bool
) -> Image.Image | np.ndarray:
    """Undo `split_channels`: return a picture of the form, depth and number of channels of `like`.

    Args:
        rgb: `[H,W,3]`, uint8 or uint16.
        alpha: `[H,W]` of the same type, or `None`.
        like: what was split. A PIL image's ICC profile, EXIF (upright now) and resolution are handed on.
        gray: whether a `like` of one color channel stays so; all three channels are equal then.
    """
    was_gray = is_gray(like) if isinstance(like, Image.Image) else like.shape[2:] in ((), (2,))
    colors = rgb[..., 0] if gray and was_gray else rgb
    pixels = colors if alpha is None else np.dstack([colors, alpha])
    if isinstance(like, np.ndarray):
        return (pixels / 65535).astype(like.dtype) if like.dtype.kind == "f" else pixels
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        pixels = to_uint8(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    profile = fitting_profile(like.info.get("icc_profile"), len(image.getbands()))
    image.info = {key: value for key, value in (("icc_profile", profile), ("dpi", like.info.get("dpi"))) if value}
    tags, order = read_exif(noted_metadata(like.info)[0] or like.getexif().tobytes())
    tags.pop(Tag.Orientation, None)
    if exif := pack_exif(tags, order):
        image.info["exif"] = EXIF_PREFIX + exif
    return image
