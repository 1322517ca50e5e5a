"""Photographs as files: all their bits, upright, with the metadata that belongs to them, and never half a file.

Pillow cuts 16-bit colors to 8 bits, so OpenCV decodes those of PNG, which is written here; for TIFF see `tiff.py`.
"""

import math
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as Tag
from PIL.TiffTags import SHORT

from ..utils.atomic import whole_file
from ..utils.choices import FORMATS
from .exif import BYTE_ORDERS, EXIF_PREFIX, entry_of, number_of, pack_exif, read_exif
from .metadata import Metadata, PhotoFile
from .opening import open_image, reading
from .orientation import XMP_ORIENTATION, noted_metadata, upright
from .pixels import channels_of, decode_with_opencv, fitting_profile, pixels_of, strips, to_uint8
from .tiff import ZLIB_LEVEL, read_tiff, write_tiff


QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
JPEG_ROOM = 65500  # bytes of EXIF or of XMP that one segment holds
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_ANIMATION = re.compile(rb"\0\0\0\x08acTL.{12}", re.DOTALL)


def read_photo(path: str | Path, page: int = 0, name: str | None = None) -> PhotoFile:
    """Read a photograph with all its bits, and turn it upright.

    16 bits are kept in TIFF and in the first picture of PNG, and in gray elsewhere. Palettes become RGB, CMYK and Lab
    become sRGB, a transparent color becomes alpha. A profile of other colors and unreadable EXIF are left out.

    Args:
        path: of the file.
        page: which of its pictures, below `count_pages`.
        name: what an error calls the file; `None` is its path.

    Raises:
        OSError: the file is missing (FileNotFoundError), not an image, cut short, without pixels, of more than 179
            megapixels, its levels have no defined range, or it is HEIF and the extra is missing; the message names the file.
    """
    with reading(name or path):
        with open(path, "rb") as file:
            header = file.read(26)
        is_tiff = header[:4] in BYTE_ORDERS
        return _upright(read_tiff(path, page) if is_tiff else _read_with_pillow(path, header, page))


def load_image(file: str | Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Read an image file completely, upright; without its EXIF and XMP.

    Args:
        file: its path, or an open one.
        name: what an error calls it; `None` is its path.

    Raises:
        OSError: the file is missing, not an image, or cut short; the message names it.
    """
    with reading(name or str(file)), open_image(file) as image:
        return upright(image)


def write_photo(photo: PhotoFile, path: str | Path) -> None:
    """Write a photograph in the format of the path's suffix, with the metadata that the format has room for.

    PNG and TIFF keep 16 bits, else they are rounded to 8. JPEG and BMP show alpha on white; WebP holds gray as RGB. A
    profile of other channels than those written is left out, and in JPEG also EXIF or XMP above 64 KB.

    Raises:
        ValueError: the suffix is not in `FORMATS`, a side is longer than the format's `LONGEST_SIDE`, or the pixels are
            not as in `PhotoFile`.
        OSError: writing failed; what was at `path` is still there.
    """
    path, pixels = Path(path), photo.pixels
    image_format = FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise ValueError(f"`path` is {path}; accepted suffixes are {' '.join(FORMATS)}.")
    _check_pixels(pixels, LONGEST_SIDE.get(image_format, 2**31))
    channels = 3 if image_format == "WEBP" else channels_of(pixels)
    metadata = replace(photo.metadata, icc_profile=fitting_profile(photo.metadata.icc_profile, channels))
    with whole_file(path) as file:
        if image_format == "PNG":
            _write_png(file, pixels, metadata)
        elif image_format == "TIFF":
            write_tiff(file, pixels, metadata)
        else:
            _write_with_pillow(file, image_format, pixels, metadata)


def _check_pixels(pixels: np.ndarray, longest: int) -> None:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"`photo.pixels` is of {pixels.dtype}; accepted is uint8 or uint16.")
    shape = list(pixels.shape)
    if pixels.ndim < 2 or 0 in shape or shape[2:] not in ([], [2], [3], [4]):
        raise ValueError(f"`photo.pixels` has the shape {shape}; accepted is [H,W], [H,W,2], [H,W,3] or [H,W,4].")
    if max(shape) > longest:
        raise ValueError(f"`photo.pixels` has the shape {shape}; sides of this format are accepted up to {longest}.")


# Reading: first as the file has it, then `_upright` as `PhotoFile` and `Metadata` promise.


def _read_with_pillow(path: str | Path, header: bytes, page: int) -> PhotoFile:
    depth, color_type = header[24:26] if header.startswith(PNG_SIGNATURE) else (8, 0)
    with open_image(path, page) as image:
        if image.format == "TIFF":
            raise OSError("BigTIFF is not supported")
        info = image.info
        if image.mode in ("1", "L") and info.get("transparency", 256) < 2**depth:
            info["transparency"] *= 255 // (2**depth - 1)  # Pillow scales only the pixels to 8 bits
        deep = depth == 16 and page == 0
        pixels = _decode_deep_png(path, color_type, info.get("transparency")) if deep else pixels_of(image)
        image.load()  # also for the metadata behind the pixels
    exif, xmp = noted_metadata(info)
    return PhotoFile(pixels, Metadata(exif, info.get("icc_profile"), xmp, info.get("dpi")))


def _decode_deep_png(path: str | Path, color_type: int, transparent: Any) -> np.ndarray:
    # Unless told that there is an animation, OpenCV takes the picture that viewers show which do not animate.
    head, mark, rest = Path(path).read_bytes().partition(b"IDAT")
    pixels = decode_with_opencv(np.frombuffer(re.sub(PNG_ANIMATION, b"", head) + mark + rest, np.uint8))
    if color_type == 4:
        return pixels[..., 2:]  # of RGBA, where R = G = B
    if color_type == 0 and transparent is not None:
        pixels = np.dstack([pixels, np.where(pixels == transparent, np.uint16(0), np.uint16(65535))])
    return pixels


def _upright(photo: PhotoFile) -> PhotoFile:
    tags, order = read_exif(photo.metadata.exif)
    xmp, dpi = photo.metadata.xmp or b"", photo.metadata.dpi or (0, 0)
    noted = re.search(XMP_ORIENTATION, xmp)
    orientation = number_of(tags, order, Tag.Orientation, int(noted[2]) if noted else 1)
    if Tag.Orientation in tags:
        tags[Tag.Orientation] = entry_of(order, SHORT, 1)
    for size in (Tag.ExifImageWidth, Tag.ExifImageHeight):
        tags.get(IFD.Exif, {}).pop(size, None)
    pixels = photo.pixels
    if orientation in (5, 6, 7, 8):
        pixels, dpi = pixels.swapaxes(0, 1), dpi[::-1]
    pixels = pixels[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]
    metadata = Metadata(
        exif=pack_exif(tags, order),
        icc_profile=fitting_profile(photo.metadata.icc_profile, channels_of(pixels)),
        xmp=re.sub(XMP_ORIENTATION, rb"\g<1>1", xmp) or None,
        dpi=(float(dpi[0]), float(dpi[1])) if all(0 < value < 65536 for value in dpi) else None,
    )
    return PhotoFile(np.ascontiguousarray(pixels), metadata)


# Writing.


def _write_with_pillow(file: BinaryIO, image_format: str, pixels: np.ndarray, metadata: Metadata) -> None:
    image = Image.fromarray(to_uint8(pixels))
    if image.mode in ("LA", "RGBA") and image_format != "WEBP":
        white = Image.new(image.mode[:-1], image.size, "white")
        white.paste(image.convert(white.mode), mask=image.getchannel("A"))
        image = white
    room = JPEG_ROOM if image_format == "JPEG" else math.inf
    exif = EXIF_PREFIX + metadata.exif if metadata.exif else b""
    options = {"exif": exif, "xmp": metadata.xmp or b""}
    options = {name: value for name, value in options.items() if 0 < len(value) <= room}
    options |= {name: value for name in ("icc_profile", "dpi") if (value := getattr(metadata, name))}
    image.save(file, format=image_format, **options, **QUALITY.get(image_format, {}))


def _write_png(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
    height, width = pixels.shape[:2]
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels_of(pixels)]

    def chunk(kind: bytes, data: bytes) -> None:
        file.write(struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(data, zlib.crc32(kind))))

    file.write(PNG_SIGNATURE)
    chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, pixels.itemsize * 8, color_type, 0, 0, 0))
    if metadata.icc_profile:
        chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.dpi:
        chunk(b"pHYs", struct.pack(">LLB", *(round(value / 0.0254) for value in metadata.dpi), 1))
    if metadata.exif:
        chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    deflate = zlib.compressobj(ZLIB_LEVEL)
    for rows in strips(pixels):
        strip = np.ascontiguousarray(pixels[rows], pixels.dtype.newbyteorder(">")).view(np.uint8)
        lines = strip.reshape(len(strip), width, -1)
        differences = np.diff(lines, axis=1, prepend=lines[:, :1] * 0).reshape(len(strip), -1)
        chunk(b"IDAT", deflate.compress(np.insert(differences, 0, 1, axis=1).tobytes()))  # 1: filter "Sub"
    chunk(b"IDAT", deflate.flush())
    chunk(b"IEND", b"")
