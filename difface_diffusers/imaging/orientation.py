"""Which way up a picture is, wherever its file says so."""

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps
from PIL.ExifTags import Base as Tag
from PIL.TiffTags import SHORT

from .exif import entry_of, number_of, pack_exif, read_exif


XMP_ORIENTATION = rb'(tiff:Orientation(?:="|>))([1-8])'
# Older ImageMagick writes what belongs to a picture as texts of a PNG, in hexadecimal digits.
RAW_PROFILES = ("Raw profile type exif", "Raw profile type APP1", "Raw profile type xmp")
RAW_ORIENTATION = "exif:Orientation"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
NOTED_IN = ("exif", "xmp", "XML:com.adobe.xmp", RAW_ORIENTATION, *RAW_PROFILES)


def upright(image: Image.Image) -> Image.Image:
    """Return a copy turned as the image's EXIF says, or else its XMP or its texts; without all of them."""
    image.load()
    try:
        orientation = image.getexif().get(Tag.Orientation)
    except (SyntaxError, ValueError, struct.error):  # the EXIF is broken
        orientation = None
    turned = image.copy()
    for name in NOTED_IN:  # Pillow would write the EXIF anew, which it cannot where a tag is of an unusual kind
        turned.info.pop(name, None)
    turned.getexif()[Tag.Orientation] = noted_orientation(image.info) if orientation is None else orientation
    ImageOps.exif_transpose(turned, in_place=True)
    return turned


def noted_orientation(info: Mapping[Any, Any]) -> int:
    """Return the orientation that Pillow's `info` of a picture tells of, 1 where it tells of none."""
    exif, xmp = noted_metadata(info)
    tags, order = read_exif(exif)
    noted = re.search(XMP_ORIENTATION, xmp or b"")
    return number_of(tags, order, Tag.Orientation, int(noted[2]) if noted else 1)


def noted_metadata(info: Mapping[Any, Any]) -> tuple[bytes | None, bytes | None]:
    """Return the EXIF and the XMP that Pillow's `info` of a picture holds, each `None` where there is none.

    An orientation that is noted as a text alone becomes one of EXIF.
    """
    exif, xmp = info.get("exif"), info.get("xmp")
    for profile in filter(None, (_raw_profile(info.get(name)) for name in RAW_PROFILES)):
        if profile.startswith(XMP_PREFIX) or profile.lstrip().startswith(b"<"):
            xmp = xmp or profile.removeprefix(XMP_PREFIX)
        else:
            exif = exif or profile
    orientation = str(info.get(RAW_ORIENTATION, "")).strip()
    tags, order = read_exif(exif)
    if (
        re.fullmatch("[1-8]", orientation)
        and Tag.Orientation not in tags
        and not re.search(XMP_ORIENTATION, xmp or b"")
    ):
        exif = pack_exif(tags | {Tag.Orientation: entry_of(order, SHORT, int(orientation))}, order)
    return exif, xmp


def _raw_profile(text: Any) -> bytes | None:
    """Return what a text holds that consists of a name, a number of bytes and their digits; `None` if it is no such one."""
    words = str(text or "").split()
    if len(words) < 3 or not words[1].isdecimal():
        return None
    try:
        return bytes.fromhex("".join(words[2:]))[: int(words[1])]
    except ValueError:
        return None
