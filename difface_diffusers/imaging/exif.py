"""EXIF, and the directories that it and TIFF consist of.

Here a directory is a dict from a tag to (kind, value as stored), or to another directory. A value that is not needed is
not interpreted, so that it comes through unchanged. Pillow would write other kinds and fractions, text without what is
not ASCII, and nothing where a tag is of another kind than usual.
"""

import mmap
import struct
from typing import Any, Literal

from PIL.ExifTags import IFD
from PIL.ExifTags import Base as Tag
from PIL.TiffTags import LONG, SHORT


EXIF_PREFIX = b"Exif\0\0"

Directory = dict[int, Any]
Order = Literal["<", ">"]
BYTE_ORDERS: dict[bytes, Order] = {b"II*\0": "<", b"MM\0*": ">"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
CHILDREN: dict[int, Any] = {IFD.Exif: {IFD.Interop: {}}, IFD.GPSInfo: {}}
# How a file stores its pixels, the profile and XMP, which have their own place, and what Photoshop keeps for itself.
STORAGE = {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 301, *range(317, 348), *range(512, 533)}
STORAGE |= {Tag.XMLPacket, Tag.InterColorProfile, 34377, 37724}


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


def check_directories(data: bytes | mmap.mmap) -> None:
    """Raise a `struct.error` if a directory in the chain of a TIFF file claims more than the file holds.

    Pillow would read its values, and so fill the memory, were they to lie upon each other.
    """
    order = BYTE_ORDERS[data[:4]]
    seen = {0}
    (place,) = struct.unpack_from(order + "L", data, 4)
    while place not in seen:
        seen.add(place)
        (count,) = struct.unpack_from(order + "H", data, place)
        entries = struct.iter_unpack(order + "HHLL", data[place + 2 : place + 2 + 12 * count])
        _check_total(sum(min(SIZES.get(kind, 0) * number, len(data)) for _, kind, number, _ in entries), count, data)
        (place,) = struct.unpack_from(order + "L", data, place + 2 + 12 * count)


def _check_total(total: int, count: int, data: bytes | mmap.mmap) -> None:
    if total > 2 * len(data):
        raise struct.error(f"a directory of {count} tags claims more than the {len(data)} bytes that there are")


def _read_directory(data: bytes | mmap.mmap, order: Order, place: int, children: dict[int, Any]) -> Directory:
    tags: Directory = {}
    total = 0
    (count,) = struct.unpack_from(order + "H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number, target = struct.unpack_from(order + "HHLL", data, entry)
        size = SIZES.get(kind, 0) * number
        start = entry + 8 if size <= 4 else target
        total += min(size, len(data))
        _check_total(total, count, data)
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
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8)
    return header + pack_directory(kept, order, len(header)) if kept else None


def pack_directory(tags: Directory, order: Order, place: int) -> bytes:
    """Lay out a directory for its place in a file: the table of tags, then values longer than 4 bytes."""
    table, values = struct.pack(order + "H", len(tags)), b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, entry in sorted(tags.items()):
        target = start + len(values)
        if isinstance(entry, dict):
            kind, number, value = LONG, 1, struct.pack(order + "L", target)
            values += pack_directory(entry, order, target)
        else:
            kind, value = entry
            number = len(value) // SIZES[kind]
            if len(value) > 4:
                values += value + bytes(len(value) % 2)
                value = struct.pack(order + "L", target)
        table += struct.pack(order + "HHL", tag, kind, number) + value.ljust(4, b"\0")
    return table + bytes(4) + values
