"""TIFF as photographs have it. Pillow cuts 16-bit colors to 8 bits, so tifffile reads those, and OpenCV what it cannot."""

import mmap
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffTags
from PIL.ExifTags import Base as Tag

from .exif import (
    BYTE_ORDERS,
    STORAGE,
    entry_of,
    number_of,
    pack_directory,
    pack_exif,
    read_directories,
    read_exif,
    resolution_of,
)
from .metadata import Metadata, PhotoFile
from .opening import open_image, pages_of
from .pixels import channels_of, decode_with_opencv, pixels_of, strips


ZLIB_LEVEL = 4  # 3 % larger than the usual 6, in a third of the time
LZW = 5  # a compression
CMYK = 5  # photometric interpretation whose 16 bits Pillow reduces properly


def read_tiff(path: str | Path, page: int = 0) -> PhotoFile:
    """Read a picture of a TIFF file as it lies, with the metadata as it is.

    Args:
        path: of the file.
        page: which of its pictures, see `pages_of`.

    Raises:
        OSError, ValueError, struct.error: it is broken, cut short, too large or of an unusual kind.
    """
    file = _beginning_with(path, page) if page else path
    with _content(file) as data:
        tags, order = read_directories(data)
    number = partial(number_of, tags, order, default=1)
    deep = number(Tag.BitsPerSample) > 8 and number(Tag.PhotometricInterpretation) != CMYK
    mixed = (number(Tag.SamplesPerPixel), number(Tag.PlanarConfiguration)) == (2, 2)  # which Pillow gets wrong
    if deep or mixed:
        pixels = _decode_deep(file, number)
    else:
        with Image.open(file) as image:
            turned = Tag.Orientation in image.getexif()  # Pillow turns a TIFF as it loads it
            pixels = pixels_of(image)
        if turned:
            tags[Tag.Orientation] = entry_of(order, TiffTags.SHORT, 1)
    profile, xmp = (tags.get(tag, (None, None))[1] for tag in (Tag.InterColorProfile, Tag.XMLPacket))
    return PhotoFile(pixels, Metadata(pack_exif(tags, order), profile, xmp, resolution_of(tags, order)))


def _beginning_with(path: str | Path, page: int) -> BytesIO:
    """Return a TIFF file whose first picture is another one of those that it holds."""
    with open_image(path) as image:
        number = pages_of(image)[page]
    content = bytearray(Path(path).read_bytes())
    order = BYTE_ORDERS[bytes(content[:4])]
    pointer = 4
    for _ in range(number):
        (directory,) = struct.unpack_from(order + "L", content, pointer)
        (count,) = struct.unpack_from(order + "H", content, directory)
        pointer = directory + 2 + 12 * count
    content[4:8] = content[pointer : pointer + 4]
    return BytesIO(content)


@contextmanager
def _content(file: str | Path | BytesIO) -> Generator[bytes | mmap.mmap]:
    if isinstance(file, BytesIO):
        yield file.getvalue()
        return
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _decode_deep(file: str | Path | BytesIO, number: Callable[..., int]) -> np.ndarray:
    """Decode 16-bit samples to uint16 as in `PhotoFile`; `number(tag, default=1)` is what the file says of itself."""
    from tifffile import TiffFile

    width, height, samples = number(Tag.ImageWidth), number(Tag.ImageLength), number(Tag.SamplesPerPixel)
    photometric = number(Tag.PhotometricInterpretation)
    layout = [number(tag) for tag in (Tag.BitsPerSample, Tag.SampleFormat, Tag.PlanarConfiguration)]
    colors = 3 if photometric == 2 else 1
    if layout != [16, 1, 1] or photometric > 2 or samples - colors not in (0, 1):
        raise OSError("its samples have an unusual size or order")
    if Image.MAX_IMAGE_PIXELS and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise OSError(f"its size, {width} x {height} pixels, exceeds limit of {2 * Image.MAX_IMAGE_PIXELS} pixels")
    if number(Tag.Compression) == LZW and samples != 2:  # OpenCV reads gray with alpha as gray of 8 bits
        with _content(file) as data:
            pixels = decode_with_opencv(np.frombuffer(bytes(data), np.uint8))
    else:
        try:
            with TiffFile(file) as tiff:
                pixels = tiff.pages.first.asarray()
        except Exception as error:  # of many kinds, as tifffile trusts what a broken file says of itself
            raise OSError(f"it is broken, cut short or compressed in an unusual way ({error})") from error
    pixels = pixels.reshape(height, width, samples)
    if photometric == 0:
        np.subtract(65535, pixels[..., 0], out=pixels[..., 0])
    alpha = number(Tag.ExtraSamples, default=2) if samples > colors else 0
    if alpha == 1:
        _divide_by_alpha(pixels)
    kept = samples if alpha else colors
    return pixels[..., :kept] if kept > 1 else pixels[..., 0]


def _divide_by_alpha(pixels: np.ndarray) -> None:
    for rows in strips(pixels):
        colors, alpha = np.split(pixels[rows].astype(np.uint32), [-1], axis=-1)
        alpha = np.maximum(alpha, 1)
        pixels[rows, :, :-1] = np.minimum((colors * 65535 + alpha // 2) // alpha, 65535)


def write_tiff(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
    """Write pixels as in `PhotoFile`, uint8 or uint16, without loss, and all metadata; `file` is empty and seekable.

    tifffile cannot write the directories of EXIF, so one of everything follows what it wrote, in place of its own.

    Raises:
        OSError: writing failed.
    """
    from tifffile import imwrite

    tags, order = read_exif(metadata.exif)
    channels = channels_of(pixels)
    written = BytesIO()
    imwrite(
        written,
        pixels,
        bigtiff=False,
        byteorder=order,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else [],
        rowsperstrip=next(strips(pixels)).stop,
        compression="zlib",
        compressionargs={"level": ZLIB_LEVEL},
        predictor=True,
        metadata=None,
    )
    content = written.getvalue()
    tags |= {tag: entry for tag, entry in read_directories(content)[0].items() if tag in STORAGE}
    if metadata.dpi:
        for tag, value in zip((Tag.XResolution, Tag.YResolution), metadata.dpi, strict=True):
            tags[tag] = entry_of(order, TiffTags.RATIONAL, round(value * 1000), 1000)
        tags[Tag.ResolutionUnit] = entry_of(order, TiffTags.SHORT, 2)  # inch
    if metadata.icc_profile:
        tags[Tag.InterColorProfile] = (TiffTags.UNDEFINED, metadata.icc_profile)
    if metadata.xmp:
        tags[Tag.XMLPacket] = (TiffTags.BYTE, metadata.xmp)
    padding = bytes(len(content) % 2)
    place = len(content) + len(padding)
    file.write(content)
    file.write(padding + pack_directory(tags, order, place))
    file.seek(4)
    file.write(struct.pack(order + "L", place))
