import struct

import numpy as np
import pytest
from PIL import Image
from PIL.TiffTags import ASCII, SHORT

from difface_diffusers.imaging.exif import number_of, pack_exif, read_directories, read_exif
from difface_diffusers.imaging.files import load_image, write_photo
from difface_diffusers.imaging.masks import fit_masks
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from difface_diffusers.imaging.orientation import upright
from difface_diffusers.imaging.pixels import split_channels
from difface_diffusers.imaging.tensors import pil_to_tensor

from .test_files import XMP, turned
from .test_tiff import MAKER_NOTE, exif_of, exif_with, picture, saved


class TestDirectories:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_come_back(self, order):
        tags, found = read_exif(exif_of(6, order))
        assert found == order
        assert set(tags) == {0x010F, 0x0112, 0x8298, 0x8769, 0x8825}
        assert tags[0x8769][0x927C] == (7, MAKER_NOTE)
        assert number_of(tags, order, 0x0112, 1) == 6
        assert read_exif(b"Exif\0\0" + pack_exif(tags, order)) == (tags, order)

    def test_without_tags_there_is_no_exif(self):
        assert read_exif(None) == ({}, "<")
        assert pack_exif({0x8769: {}, 256: (SHORT, b"\4\0")}, "<") is None  # the width belongs to the file

    def test_a_missing_number(self):
        assert number_of({}, ">", 0x0112, 7) == 7

    def test_no_directories(self):
        with pytest.raises(KeyError, match="text"):
            read_directories(b"text")
        for broken in (b"II*\0", b"II*\0\xff\xff\0\0", exif_of()[:30]):
            with pytest.raises(struct.error, match="requires a buffer"):
                read_directories(broken)


BLACK_OR_WHITE = np.where(picture("gray") > 127, np.uint8(255), np.uint8(0))
DOORS = {  # each from a path to levels from 0 to 1
    "file": lambda path: np.asarray(load_image(path)) / 255,
    "photo": lambda path: split_channels(Image.open(path))[0][..., 0] / 255,
    "face": lambda path: pil_to_tensor(Image.open(path))[0].numpy(),
    "mask": lambda path: fit_masks(Image.open(path), [(24, 40)], None, False)[0][0].numpy(),
}


class TestUpright:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("note", ["exif", "xmp", "set"])
    def test_every_way_to_hold_a_camera(self, tmp_path, note, orientation):
        stored = turned(picture("RGB"), orientation)
        xmp = XMP.replace(b'Orientation="1"', b'Orientation="%d"' % orientation)
        metadata = {"exif": Metadata(exif=exif_of(orientation)), "xmp": Metadata(xmp=xmp)}.get(note, Metadata())
        write_photo(PhotoFile(stored, metadata), tmp_path / "a.png")
        stored = Image.open(tmp_path / "a.png")
        if note == "set":
            stored.getexif()[0x0112] = orientation
        for image in (upright(stored), upright(upright(stored)), upright(upright(stored).convert("RGB"))):
            np.testing.assert_array_equal(np.asarray(image), picture("RGB"))
        assert stored.getexif()[0x0112] == orientation

    @pytest.mark.parametrize("door", DOORS)
    def test_where_a_tag_is_of_another_kind_than_usual(self, tmp_path, door):
        exif = exif_with({0x0112: (SHORT, 1, b"\6\0"), 0x011A: (ASCII, 6, b"72dpi\0")})
        path = saved(tmp_path / "a.png", Image.fromarray(turned(BLACK_OR_WHITE, 6)), exif=exif)
        np.testing.assert_array_equal(DOORS[door](path), BLACK_OR_WHITE / 255)

    @pytest.mark.parametrize("broken", [b"nothing", b"II*\0", b"XX*\0\x08\0\0\0"])
    @pytest.mark.parametrize("door", DOORS)
    def test_broken_exif_is_left_out(self, tmp_path, door, broken):
        path = saved(tmp_path / "a.png", Image.fromarray(BLACK_OR_WHITE), exif=b"Exif\0\0" + broken)
        np.testing.assert_array_equal(DOORS[door](path), BLACK_OR_WHITE / 255)
