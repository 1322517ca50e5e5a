"""TIFF: its directories, which EXIF consists of too, and its 16-bit pixels; and what PNG shares with it.

Here a directory is a dict from a tag to (kind, value as stored), or to another directory. A value that is not needed is
not interpreted, so that it comes through unchanged.
"""

import mmap
import struct
import zlib
from functools import partial
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as Tag

from .metadata import Metadata
from .pixels import channels_of, strips


ZLIB_LEVEL = 4  # 3 % larger than the usual 6, in a third of the time
EXIF_PREFIX = b"Exif\0\0"

Directory = dict[int, Any]
Order = Literal["<", ">"]
BYTE_ORDERS: dict[bytes, Order] = {b"II*\0": "<", b"MM\0*": ">"}
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
CHILDREN: dict[int, Any] = {IFD.Exif: {IFD.Interop: {}}, IFD.GPSInfo: {}}
# How a file stores its pixels, the profile and XMP, which have their own place, and what Photoshop keeps for itself.
STORAGE = {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 301, *range(317, 348), *range(512, 533)}
STORAGE |= {Tag.XMLPacket, Tag.InterColorProfile, 34377, 37724}
# How strips or tiles are to be read, whatever their samples mean.
LAYOUT = {Tag.ImageLength, Tag.Compression, Tag.FillOrder, Tag.StripOffsets, Tag.RowsPerStrip, Tag.StripByteCounts}
LAYOUT |= {Tag.TileLength, Tag.TileOffsets, Tag.TileByteCounts}


# Shared with other formats.


def differences_of(pixels: np.ndarray) -> np.ndarray:
    """Subtract from every pixel of `[H,W]` or `[H,W,C]` its left neighbor; unsigned numbers wrap around."""
    differences = pixels.copy()
    differences[:, 1:] -= pixels[:, :-1]
    return differences


def decode_with_opencv(data: np.ndarray) -> np.ndarray:
    """Decode a file's bytes, uint8 `[N]`, with all their bits: gray `[H,W]`, BGR `[H,W,3]` or BGRA `[H,W,4]`.

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
    return pixels


# Directories.


def read_exif(exif: bytes | None) -> tuple[Directory, Order]:
    """Read the directories of EXIF, with or without `EXIF_PREFIX`, and the byte order; no tags if it is broken."""
    try:
        return read_directories((exif or b"").removeprefix(EXIF_PREFIX))
    except (KeyError, struct.error):
        return {}, "<"


def read_directories(data: bytes | mmap.mmap) -> tuple[Directory, Order]:
    """Read the first directory of a TIFF file or of EXIF with those below it, and the byte order ("<" or ">").

    Raises:
        KeyError: `data` does not begin as one of `BYTE_ORDERS`.
        struct.error: `data` is broken.
    """
    order = BYTE_ORDERS[data[:4]]
    (place,) = struct.unpack_from(order + "L", data, 4)
    return _read_directory(data, order, place, CHILDREN), order


def _read_directory(data: bytes | mmap.mmap, order: Order, place: int, children: dict[int, Any]) -> Directory:
    tags: Directory = {}
    (count,) = struct.unpack_from(order + "H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number, target = struct.unpack_from(order + "HHLL", data, entry)
        size = SIZES.get(kind, 0) * number
        start = entry + 8 if size <= 4 else target
        value = data[start : start + size]
        if tag in children:
            tags[tag] = _read_directory(data, order, target, children[tag])
        elif value and len(value) == size:
            tags[tag] = (kind, value)
    return tags


def number_of(tags: Directory, order: Order, tag: int, default: int) -> int:
    """Return the first number of a tag of whole numbers, or `default` where the tag is missing."""
    return _numbers_of(tags, order, tag, default)[0]


def _numbers_of(tags: Directory, order: Order, tag: int, *default: int) -> tuple[int, ...]:
    kind, value = tags.get(tag, (SHORT, b""))
    letter, size = ("H", 2) if kind == SHORT else ("L", 4)
    return struct.unpack_from(f"{order}{len(value) // size}{letter}", value) or default


def resolution_of(tags: Directory, order: Order) -> tuple[float, float]:
    """Return the pixels per inch, across and down; 0 where they are unknown."""
    unit = {2: 1.0, 3: 2.54}.get(number_of(tags, order, Tag.ResolutionUnit, 2), 0.0)  # inch, centimeter
    (x, across), (y, down) = ((*_numbers_of(tags, order, tag, 0), 1)[:2] for tag in (Tag.XResolution, Tag.YResolution))
    return x / max(across, 1) * unit, y / max(down, 1) * unit


def entry_of(order: Order, kind: int, *numbers: int) -> tuple[int, bytes]:
    """Return (kind, value as stored) of whole numbers, SHORT, LONG or the parts of RATIONAL."""
    return kind, struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'L'}", *numbers)


def pack_exif(tags: Directory, order: Order) -> bytes | None:
    """Lay out EXIF from the TIFF header on, without the tags in `STORAGE`; None if no others are there."""
    kept = {tag: entry for tag, entry in tags.items() if entry and tag not in STORAGE}
    return _header(order, 8) + _pack_directory(kept, order, 8) if kept else None


def _pack_directory(tags: Directory, order: Order, place: int) -> bytes:
    """Lay out a directory for its place in a file: the table of tags, then values longer than 4 bytes."""
    table, values = struct.pack(order + "H", len(tags)), b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, entry in sorted(tags.items()):
        target = start + len(values)
        if isinstance(entry, dict):
            kind, number, value = LONG, 1, struct.pack(order + "L", target)
            values += _pack_directory(entry, order, target)
        else:
            kind, value = entry
            number = len(value) // SIZES[kind]
            if len(value) > 4:
                values += value + bytes(len(value) % 2)
                value = struct.pack(order + "L", target)
        table += struct.pack(order + "HHL", tag, kind, number) + value.ljust(4, b"\0")
    return table + bytes(4) + values


def _header(order: Order, place: int) -> bytes:
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, place)


# Pixels.


def decode_deep_tiff(data: mmap.mmap, tags: Directory, order: Order) -> np.ndarray:
    """Decode 16-bit samples, not turned, to uint16 as in `PhotoFile`.

    OpenCV reads gray right, but not gray with alpha. So the samples of a pixel are declared to be gray pixels side by
    side; what depends on their number is done after.

    Args:
        data: the whole file.
        tags: its first directory.
        order: its byte order.

    Raises:
        OSError: a pixel is not gray or RGB, with at most one sample more, side by side; or OpenCV cannot read the file.
    """
    number = partial(number_of, tags, order, default=1)
    width, height, samples = number(Tag.ImageWidth), number(Tag.ImageLength), number(Tag.SamplesPerPixel)
    photometric, tile_width = number(Tag.PhotometricInterpretation), number(Tag.TileWidth)
    layout = [number(tag) for tag in (Tag.BitsPerSample, Tag.SampleFormat, Tag.PlanarConfiguration)]
    colors = 3 if photometric == 2 else 1
    if layout != [16, 1, 1] or photometric > 2 or samples - colors not in (0, 1):
        raise OSError("its samples have an unusual size or order")
    disguise: Directory = {tag: tags[tag] for tag in LAYOUT & tags.keys()}
    disguise[Tag.ImageWidth] = entry_of(order, LONG, width * samples)
    disguise[Tag.BitsPerSample] = entry_of(order, SHORT, 16)
    disguise[Tag.PhotometricInterpretation] = entry_of(order, SHORT, 1)
    if Tag.TileWidth in tags:
        disguise[Tag.TileWidth] = entry_of(order, LONG, tile_width * samples)
    place = len(data) + len(data) % 2
    file = bytearray(data).ljust(place, b"\0") + _pack_directory(disguise, order, place)
    file[:8] = _header(order, place)
    pixels = decode_with_opencv(np.frombuffer(file, np.uint8)).reshape(height, width, samples)
    if number(Tag.Predictor) == 2:
        _sum_differences(pixels, tile_width if Tag.TileWidth in tags else width)
    if photometric == 0:
        np.subtract(65535, pixels[..., 0], out=pixels[..., 0])
    alpha = number_of(tags, order, Tag.ExtraSamples, 2) if samples > colors else 0
    if alpha == 1:
        _divide_by_alpha(pixels)
    kept = samples if alpha else colors
    return pixels[..., :kept] if kept > 1 else pixels[..., 0]


def _sum_differences(pixels: np.ndarray, step: int) -> None:
    for rows in strips(pixels):
        for left in range(0, pixels.shape[1], step):
            tile = pixels[rows, left : left + step]
            np.add.accumulate(tile, axis=1, out=tile)


def _divide_by_alpha(pixels: np.ndarray) -> None:
    for rows in strips(pixels):
        colors, alpha = np.split(pixels[rows].astype(np.uint32), [-1], axis=-1)
        alpha = np.maximum(alpha, 1)
        pixels[rows, :, :-1] = np.minimum((colors * 65535 + alpha // 2) // alpha, 65535)


def write_tiff(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
    """Write pixels as in `PhotoFile`, uint8 or uint16, without loss, and all metadata; `file` is empty and seekable.

    Raises:
        OSError: writing failed.
    """
    tags, order = read_exif(metadata.exif)
    channels = channels_of(pixels)
    parts = list(strips(pixels))
    offsets, sizes = [], []
    file.write(bytes(8))
    for rows in parts:
        strip = differences_of(pixels[rows])
        strip = zlib.compress(strip.astype(strip.dtype.newbyteorder(order)).tobytes(), ZLIB_LEVEL)
        offsets.append(file.tell())
        sizes.append(len(strip))
        file.write(strip + bytes(len(strip) % 2))

    def put(tag: int, kind: int, *numbers: int) -> None:
        tags[tag] = entry_of(order, kind, *numbers)

    put(Tag.ImageWidth, LONG, pixels.shape[1])
    put(Tag.ImageLength, LONG, pixels.shape[0])
    put(Tag.BitsPerSample, SHORT, *[pixels.itemsize * 8] * channels)
    put(Tag.Compression, SHORT, 8)  # deflate
    put(Tag.PhotometricInterpretation, SHORT, 1 if channels < 3 else 2)
    put(Tag.StripOffsets, LONG, *offsets)
    put(Tag.SamplesPerPixel, SHORT, channels)
    put(Tag.RowsPerStrip, LONG, parts[0].stop)
    put(Tag.StripByteCounts, LONG, *sizes)
    put(Tag.PlanarConfiguration, SHORT, 1)
    put(Tag.Predictor, SHORT, 2)  # differences
    if channels in (2, 4):
        put(Tag.ExtraSamples, SHORT, 2)  # straight alpha
    if metadata.dpi:
        for tag, value in zip((Tag.XResolution, Tag.YResolution), metadata.dpi, strict=True):
            put(tag, RATIONAL, round(value * 1000), 1000)
        put(Tag.ResolutionUnit, SHORT, 2)  # inch
    if metadata.icc_profile:
        tags[Tag.InterColorProfile] = (UNDEFINED, metadata.icc_profile)
    if metadata.xmp:
        tags[Tag.XMLPacket] = (BYTE, metadata.xmp)
    place = file.tell()
    file.write(_pack_directory(tags, order, place))
    file.seek(0)
    file.write(_header(order, place))
