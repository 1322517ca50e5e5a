import struct

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.imaging.files import load_image, read_photo
from difface_diffusers.imaging.jpeg2000 import UUIDS, jpeg2000_notes

from .test_files import XMP, turned
from .test_tiff import exif_of, picture, tags_of


EXIF_UUID, XMP_UUID = UUIDS


def box(kind, content, long=False):
    if long:
        return struct.pack(">L4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">L4s", 8 + len(content), kind) + content


def with_box(path, extra, last):
    """Write a picture with a box behind or before its pixels."""
    content = path.read_bytes()
    if last:
        start = content.index(b"jp2c") - 4
        content = content[:start] + struct.pack(">L", len(content) - start) + content[start + 4 :] + extra
    else:
        start = content.index(b"jp2c") - 4
        content = content[:start] + extra + content[start:]
    path.write_bytes(content)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("note", ["exif", "exif, long", "xmp"])
@pytest.mark.parametrize("last", [False, True])
def test_is_turned_as_its_boxes_say(tmp_path, last, note, orientation):
    path = tmp_path / "a.jp2"
    Image.fromarray(turned(picture("RGB"), orientation)).save(path)
    xmp = XMP.replace(b'Orientation="1"', b'Orientation="%d"' % orientation)
    content = XMP_UUID + xmp if note == "xmp" else EXIF_UUID + exif_of(orientation)
    with_box(path, box(b"uuid", content, long=note.endswith("long")), last)
    photo = read_photo(path)
    for pixels in (photo.pixels, load_image(path)):
        np.testing.assert_array_equal(np.asarray(pixels), picture("RGB"))
    if note == "xmp":
        assert photo.metadata.xmp == XMP
    else:
        assert tags_of(photo.metadata.exif)[0x0112] == 1


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x0cjP  ", struct.pack(">L4s", 3, b"uuid"), box(b"colr", b""),
                                     struct.pack(">L4sQ", 1, b"uuid", 2**63 - 1), struct.pack(">L4s", 0, b"uuid")])  # fmt: skip
def test_broken_boxes_hold_nothing(tmp_path, content):
    (tmp_path / "a.jp2").write_bytes(content)
    assert jpeg2000_notes(tmp_path / "a.jp2") == {}
