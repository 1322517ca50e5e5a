import errno
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import difface_diffusers
from difface_diffusers.imaging.files import load_image, read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from difface_diffusers.imaging.pixels import to_uint8
from difface_diffusers.utils.choices import FORMATS

from .test_tiff import MAKER_NOTE, SHAPES, SRGB, THUMBNAIL, exif_of, picture, saved, tags_of, tiff, tiff_directory


GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1">\xc3\xa9</rdf:Description></x:xmpmeta>'
)


def on_white(pixels):
    if pixels.shape[2:] not in ((2,), (4,)):
        return pixels
    top = np.iinfo(pixels.dtype).max
    share = pixels[..., -1:] / top
    colors = pixels[..., :-1] * share + top * (1 - share)
    return np.squeeze(np.rint(colors).astype(pixels.dtype))


def distance(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other).max()


def png(path, depth, color_type, rows, *chunks, late=()):
    """A PNG of unfiltered rows of bytes."""

    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    width = len(rows[0]) * 8 // depth // {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    header = struct.pack(">LLBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    everything = ((b"IHDR", header), *chunks, (b"IDAT", pixels), *late, (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in everything))
    return path


def turned(pixels, orientation):
    """How a camera held this way stores the pixels; the inverse of what EXIF prescribes."""
    methods = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    methods |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # Pillow turns counterclockwise
    if orientation == 1:
        return pixels
    planes = pixels.reshape(*pixels.shape[:2], -1)
    method = Image.Transpose[methods[orientation]]
    planes = [
        np.asarray(Image.fromarray(planes[..., i].astype(np.int32)).transpose(method)) for i in range(planes.shape[2])
    ]
    return np.squeeze(np.dstack(planes).astype(pixels.dtype))


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("kind", SHAPES)
    @pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
    def test_png_and_tiff_lose_nothing(self, tmp_path, suffix, kind, dtype):
        pixels = picture(kind, dtype)
        write_photo(PhotoFile(pixels, Metadata()), tmp_path / f"a.{suffix}")
        back = read_photo(tmp_path / f"a.{suffix}")
        assert back.pixels.dtype == dtype
        np.testing.assert_array_equal(back.pixels, pixels)
        assert back.metadata == Metadata()
        assert back.pixels.flags.c_contiguous and back.pixels.flags.writeable

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("kind", SHAPES)
    @pytest.mark.parametrize(("suffix", "tolerance"), [("jpg", 4), ("jpeg", 4), ("webp", 12), ("bmp", 0)])
    def test_the_others_round_to_8_bits(self, tmp_path, suffix, tolerance, kind, dtype):
        pixels = picture(kind, dtype)
        write_photo(PhotoFile(pixels, Metadata()), tmp_path / f"a.{suffix}")
        expected = pixels if dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)
        if suffix == "webp":
            channels = {"gray": [0, 0, 0], "gray and alpha": [0, 0, 0, 1]}.get(kind, slice(None))
            expected = np.atleast_3d(expected)[..., channels]
            visible = expected[..., -1] > 0 if expected.shape[-1] == 4 else np.full((24, 40), True)
            expected = expected * visible[..., None]
        else:
            expected, visible = on_white(expected), np.full((24, 40), True)
            tolerance += "alpha" in kind or "A" in kind
        back = read_photo(tmp_path / f"a.{suffix}").pixels
        assert back.dtype == np.uint8
        assert distance(back[visible], expected[visible]) <= tolerance

    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
    def test_gray_has_one_channel_in_the_file(self, tmp_path, suffix):
        write_photo(PhotoFile(picture("gray"), Metadata()), tmp_path / f"a.{suffix}")
        with Image.open(tmp_path / f"a.{suffix}") as image:
            assert image.mode == "L"

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("kind", SHAPES)
    def test_others_can_read_it(self, tmp_path, suffix, kind):
        path = tmp_path / f"a.{suffix}"
        write_photo(PhotoFile(picture(kind), Metadata()), path)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), picture(kind))
        if kind != "gray and alpha":  # which OpenCV cannot read
            write_photo(PhotoFile(picture(kind, np.uint16), Metadata()), path)
            expected = picture(kind, np.uint16)
            channels = {"RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}.get(kind)
            expected = expected[..., channels] if channels else expected
            np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_many_strips(self, tmp_path, monkeypatch, suffix):
        monkeypatch.setattr("difface_diffusers.imaging.pixels.STRIP_PIXELS", 100)
        for kind in SHAPES:
            for dtype in (np.uint8, np.uint16):
                pixels = picture(kind, dtype)
                write_photo(PhotoFile(pixels, Metadata()), tmp_path / f"a.{suffix}")
                np.testing.assert_array_equal(read_photo(tmp_path / f"a.{suffix}").pixels, pixels)

    def test_a_view_is_written_as_it_looks(self, tmp_path):
        pixels = picture("RGB", np.uint16)[::-1, ::2, ::-1]
        for suffix in ("png", "tif", "bmp"):
            write_photo(PhotoFile(pixels, Metadata()), tmp_path / f"a.{suffix}")
            expected = pixels if suffix != "bmp" else np.rint(pixels / 257).astype(np.uint8)
            np.testing.assert_array_equal(read_photo(tmp_path / f"a.{suffix}").pixels, expected)

    def test_16_bits_are_rounded_not_cut(self, tmp_path):
        levels = np.array([[0, 128, 129, 257, 385, 386, 65406, 65407, 65535]], np.uint16)
        write_photo(PhotoFile(levels, Metadata()), tmp_path / "a.bmp")
        assert read_photo(tmp_path / "a.bmp").pixels.tolist() == [[0, 0, 1, 1, 1, 2, 254, 255, 255]]

    def test_every_level_is_rounded_to_the_nearest(self, monkeypatch):
        monkeypatch.setattr("difface_diffusers.imaging.pixels.STRIP_PIXELS", 1000)
        levels = np.arange(65536, dtype=np.uint16).reshape(128, 128, 4)
        rounded = to_uint8(levels)
        assert rounded.dtype == np.uint8
        np.testing.assert_array_equal(rounded, np.rint(levels / 257))
        assert to_uint8(rounded) is rounded


class TestRead:
    @pytest.mark.parametrize("kind", SHAPES)
    def test_16_bit_png_of_others(self, tmp_path, kind):
        pixels = picture(kind, np.uint16)
        rows = [row.astype(">u2").tobytes() for row in pixels]
        path = png(tmp_path / "a.png", 16, {"gray": 0, "gray and alpha": 4, "RGB": 2, "RGBA": 6}[kind], rows)
        np.testing.assert_array_equal(read_photo(path).pixels, pixels)

    @pytest.mark.parametrize("own", [True, False])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize(("kind", "color_type"), [("gray", 0), ("gray and alpha", 4), ("RGB", 2), ("RGBA", 6)])
    def test_what_viewers_show_of_an_animated_png_that_do_not_animate(self, tmp_path, kind, color_type, dtype, own):
        """It is the first picture, or one of its own that does not belong to the animation."""
        pixels = picture(kind, dtype)
        rows = [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels]
        others = zlib.compress(b"".join(b"\0" + bytes(len(row)) for row in rows))
        number = iter(range(10))

        def control():
            return b"fcTL", struct.pack(">LLLLLHHBB", next(number), 40, 24, 0, 0, 1, 10, 0, 0)

        first = [] if own else [control()]
        late = [chunk for _ in range(2) for chunk in (control(), (b"fdAT", struct.pack(">L", next(number)) + others))]
        chunks = [(b"acTL", struct.pack(">LL", len(first) + 2, 0)), *first]
        back = read_photo(png(tmp_path / "a.png", pixels.itemsize * 8, color_type, rows, *chunks, late=late)).pixels
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, pixels)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize(("kind", "color_type"), [("gray", 0), ("RGB", 2)])
    def test_the_transparent_color_of_a_png(self, tmp_path, kind, color_type, dtype):
        pixels = picture(kind, dtype)
        rows = [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels]
        transparent = (b"tRNS", np.atleast_1d(pixels[3, 5]).astype(">u2").tobytes())
        back = read_photo(png(tmp_path / "a.png", pixels.itemsize * 8, color_type, rows, transparent)).pixels
        top = np.iinfo(dtype).max
        np.testing.assert_array_equal(np.squeeze(back[..., :-1]), pixels)
        hidden = (np.atleast_3d(pixels) == np.atleast_1d(pixels[3, 5])).all(axis=-1)
        np.testing.assert_array_equal(back[..., -1], np.where(hidden, 0, top))

    @pytest.mark.parametrize(("depth", "row"), [(1, [0, 255] * 4), (2, [0, 85, 170, 255]), (4, [17, 187])])
    def test_few_bits_with_a_transparent_level(self, tmp_path, depth, row):
        byte = {1: 0b01010101, 2: 0b00011011, 4: 0b00011011}[depth]
        path = png(tmp_path / "a.png", depth, 0, [bytes([byte])], (b"tRNS", b"\0\1"))
        first = {1: 255, 2: 85, 4: 17}[depth]
        assert read_photo(path).pixels.tolist() == [[[level, 0 if level == first else 255] for level in row]]

    def test_16_bit_pgm(self, tmp_path):
        pixels = picture("gray", np.uint16)
        path = tmp_path / "a.pgm"
        path.write_bytes(b"P5 40 24 65535\n" + pixels.astype(">u2").tobytes())
        back = read_photo(path).pixels
        assert back.dtype == np.uint16
        np.testing.assert_array_equal(back, pixels)

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *[
                (mode, suffix)
                for mode in ("1", "L", "P", "RGB", "RGBA")
                for suffix in ("png", "tif", "bmp", "webp", "gif")
            ],
            *[(mode, suffix) for mode in ("LA", "LAB", "CMYK", "PA") for suffix in ("tif",)],
            *[("LA", "png"), ("RGB", "ppm"), ("L", "pgm"), ("L", "jpg"), ("RGB", "jpg"), ("CMYK", "jpg")],
        ],
    )
    def test_modes_of_pillow(self, tmp_path, mode, suffix):
        source = Image.fromarray(picture("RGBA" if "A" in mode else "RGB"))
        if mode == "LAB":
            lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
            image = lab.apply(Image.fromarray(picture("RGB") // 4 + 96))
        elif mode in ("P", "PA"):
            image = source.convert("RGB").quantize(64).convert(mode)
        else:
            image = source.convert(mode)
        try:
            path = saved(tmp_path / f"a.{suffix}", image)
        except (OSError, ValueError):
            pytest.skip(f"Pillow does not write {mode} as {suffix}")
        back = read_photo(path).pixels
        with Image.open(path) as image:
            if mode == "LAB":
                expected = picture("RGB") // 4 + 96
            else:
                expected = np.asarray(image.convert("RGBA" if back.shape[2:] in ((2,), (4,)) else "RGB"))
        assert back.dtype == np.uint8
        assert back.ndim == 2 if image.mode in ("1", "L") else back.ndim == 3
        back = np.dstack([back] * 3) if back.ndim == 2 else back[..., [0, 0, 0, 1]] if back.shape[2] == 2 else back
        assert distance(back, expected) <= (3 if mode == "LAB" else 0)

    def test_the_first_picture_of_a_gif_with_its_transparency(self, tmp_path):
        first = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8), "P")
        first.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        second = Image.new("P", (4, 1), 2)
        second.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        path = saved(tmp_path / "a.gif", first, save_all=True, append_images=[second], transparency=1)
        back = read_photo(path).pixels
        assert back[0, [0, 2]].tolist() == [[10, 20, 30, 255], [70, 80, 90, 255]]
        assert back[0, [1, 3], 3].tolist() == [0, 0]

    @pytest.mark.parametrize("suffix", ["jpg", "tif"])
    def test_cmyk_through_its_profile(self, tmp_path, suffix):
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[:, 8:, 3] = 255  # black ink, which the profile says is red
        image = Image.frombytes("CMYK", (16, 16), pixels.tobytes())
        photo = read_photo(saved(tmp_path / f"a.{suffix}", image, icc_profile=cmyk_profile()))
        assert photo.metadata.icc_profile is None
        paper, ink = photo.pixels[8, 2].astype(int), photo.pixels[8, 13].astype(int)
        assert paper.min() > 250
        assert ink[0] > 100 and ink[1:].max() < 30

    def test_16_bit_cmyk(self, tmp_path):
        path = tiff(tmp_path / "a.tif", np.array([[[0, 65535, 65535, 0], [0, 0, 65535, 32768]]], np.uint16), 5)
        pixels = read_photo(path).pixels
        assert pixels.dtype == np.uint8
        assert pixels.tolist() == [[[255, 0, 0], [127, 127, 0]]]

    @pytest.mark.parametrize("profile", [None, b"broken", SRGB])
    def test_cmyk_without_a_usable_profile(self, tmp_path, profile):
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        photo = read_photo(saved(tmp_path / "a.tif", image, icc_profile=profile))
        assert photo.pixels[0, 0].tolist() == [255, 0, 0]
        assert photo.metadata.icc_profile is None or profile == SRGB


def cmyk_profile():
    """ICC profile in which ink K is red and the others have no color."""
    lab = [bytes([137, 209, 195]) if index & 1 else bytes([255, 128, 128]) for index in range(16)]
    ramp = bytes(range(256))
    identity = struct.pack(">9l", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + b"".join(lab) + ramp * 3
    white = struct.pack(">3l", 63190, 65536, 54061)
    head = b"\0\0\0\0" + b"\x02\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28) + white
    head = head.ljust(124, b"\0")
    tags = struct.pack(">L4sLL", 1, b"A2B0", 144, len(table))
    size = 4 + len(head) + len(tags) + len(table)
    return struct.pack(">L", size) + head + tags + table


class TestUpright:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_8_bits(self, tmp_path, suffix, orientation):
        stored = Image.fromarray(turned(picture("RGB"), orientation))
        options = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo = read_photo(saved(tmp_path / f"a.{suffix}", stored, exif=exif, **options))
        assert distance(photo.pixels, picture("RGB")) <= (6 if suffix == "jpg" else 0)
        assert tags_of(photo.metadata.exif)[0x0112] == 1

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", SHAPES)
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bits(self, tmp_path, suffix, kind, orientation):
        stored = turned(picture(kind, np.uint16), orientation)
        write_photo(
            PhotoFile(stored, Metadata(exif=exif_of(orientation, ">"), dpi=(300, 150))), tmp_path / f"a.{suffix}"
        )
        photo = read_photo(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(photo.pixels, picture(kind, np.uint16))
        assert photo.pixels.flags.c_contiguous
        assert tags_of(photo.metadata.exif)[0x0112] == 1
        assert photo.metadata.dpi == pytest.approx((150, 300) if orientation > 4 else (300, 150), rel=1e-3)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
    def test_xmp_counts_where_exif_is_silent(self, tmp_path, suffix):
        xmp = XMP.replace(b'Orientation="1"', b'Orientation="8"')
        path = tmp_path / f"a.{suffix}"
        write_photo(PhotoFile(turned(picture("RGB"), 8), Metadata(xmp=xmp)), path)
        photo = read_photo(path)
        assert distance(photo.pixels, picture("RGB")) <= {"jpg": 6, "webp": 12}.get(suffix, 0)
        assert photo.metadata.xmp == XMP
        write_photo(PhotoFile(turned(picture("RGB"), 8), Metadata(xmp=XMP, exif=exif_of(8))), path)
        assert read_photo(path).pixels.shape == (24, 40, 3)

    def test_an_orientation_that_does_not_exist(self, tmp_path):
        write_photo(PhotoFile(picture("gray"), Metadata(exif=exif_of(9))), tmp_path / "a.png")
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, picture("gray"))


class TestMetadata:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp"])
    def test_comes_back(self, tmp_path, suffix, dtype, order):
        metadata = Metadata(exif_of(1, order), SRGB, XMP, (300.0, 150.0))
        write_photo(PhotoFile(picture("RGB", dtype), metadata), tmp_path / f"a.{suffix}")
        back = read_photo(tmp_path / f"a.{suffix}").metadata
        if suffix == "bmp":
            assert (back.exif, back.icc_profile, back.xmp) == (None, None, None)
        else:
            assert (back.icc_profile, back.xmp) == (SRGB, XMP)
            self.check_exif(back.exif)
        assert back.dpi == (None if suffix == "webp" else pytest.approx((300, 150), rel=1e-3))

    @staticmethod
    def check_exif(exif):
        tags = tags_of(exif)
        assert (tags[0x010F], tags[0x0112]) == ("Camera", 1)
        assert "© José\0".encode() in exif
        assert tags.get_ifd(0x8769) == {0x9003: "2019:08:07 06:05:04", 0x927C: MAKER_NOTE}
        assert tags.get_ifd(0x8825)[1] == "N"
        assert tags.get_ifd(0x8825)[2] == pytest.approx((52, 31, 12.345))
        assert tags.get_ifd(1) == {}
        assert THUMBNAIL not in exif

    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
    def test_pillow_finds_it(self, tmp_path, suffix):
        write_photo(
            PhotoFile(picture("RGB"), Metadata(exif_of(1), SRGB, XMP, (300.0, 150.0))), tmp_path / f"a.{suffix}"
        )
        with Image.open(tmp_path / f"a.{suffix}") as image:
            image.load()
            assert (image.info["icc_profile"], image.info["xmp"]) == (SRGB, XMP)
            assert image.getexif()[0x010F] == "Camera"
            assert image.getexif().get_ifd(0x8825)[1] == "N"
            if suffix != "webp":
                assert tuple(map(float, image.info["dpi"])) == pytest.approx((300, 150), rel=1e-3)

    @pytest.mark.parametrize(("dtype", "depth"), [(">u1", 8), (">u2", 16)])
    def test_behind_the_pixels_of_a_png(self, tmp_path, dtype, depth):
        rows = [row.astype(dtype).tobytes() for row in turned(picture("RGB"), 6)]
        late = (b"eXIf", exif_of(6)), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        photo = read_photo(png(tmp_path / "a.png", depth, 2, rows, late=late))
        np.testing.assert_array_equal(photo.pixels, picture("RGB"))
        self.check_exif(photo.metadata.exif)
        assert photo.metadata.xmp == XMP

    def test_what_is_too_long_for_jpeg_is_left_out(self, tmp_path):
        long = b"II*\0\x08\0\0\0" + tiff_directory(
            "<", 8, {0x010F: (2, 7, b"Camera\0"), 0x9999: (7, 70000, bytes(70000))}
        )
        metadata = Metadata(long, SRGB * 100, XMP + b" " * 70000)
        for suffix in ("jpg", "png"):
            write_photo(PhotoFile(picture("RGB"), metadata), tmp_path / f"a.{suffix}")
        back = read_photo(tmp_path / "a.jpg").metadata
        assert (back.exif, back.icc_profile, back.xmp) == (None, SRGB * 100, None)
        back = read_photo(tmp_path / "a.png").metadata
        assert (len(back.exif), back.xmp) == (len(long), metadata.xmp)

    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
    @pytest.mark.parametrize(("kind", "fitting", "other"), [("gray", GRAY, SRGB), ("RGB", SRGB, GRAY)])
    def test_only_a_profile_of_the_channels_written(self, tmp_path, suffix, kind, fitting, other):
        for profile, expected in ((fitting, fitting), (other, None), (b"broken", None)):
            write_photo(PhotoFile(picture(kind), Metadata(icc_profile=profile)), tmp_path / f"a.{suffix}")
            with Image.open(tmp_path / f"a.{suffix}") as image:
                assert image.info.get("icc_profile") == expected

    def test_webp_holds_gray_as_rgb(self, tmp_path):
        write_photo(PhotoFile(picture("gray"), Metadata(icc_profile=GRAY)), tmp_path / "a.webp")
        with Image.open(tmp_path / "a.webp") as image:
            assert "icc_profile" not in image.info

    def test_a_profile_of_other_channels_is_not_read(self, tmp_path):
        path = saved(tmp_path / "a.png", Image.fromarray(picture("gray")), icc_profile=SRGB)
        assert read_photo(path).metadata.icc_profile is None

    def test_no_resolution_where_it_is_nought(self, tmp_path):
        path = saved(tmp_path / "a.bmp", Image.fromarray(picture("RGB")), dpi=(0, 0))
        assert read_photo(path).metadata.dpi is None


class TestErrors:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no\.png"):
            read_photo(tmp_path / "no.png")

    @pytest.mark.parametrize(
        "content", [b"", b"text", b"II*\0", b"II*\0\x08\0\0\0\0\0", b"II+\0\x08\0\0\0", b"P6 0 0 255\n"]
    )
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_no_image(self, tmp_path, content):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(OSError, match=r"a\.png cannot be read as an image"):
            read_photo(tmp_path / "a.png")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp", "ppm", "gif"])
    def test_cut_short(self, tmp_path, suffix, dtype):
        path = tmp_path / f"a.{suffix}"
        if suffix in ("ppm", "gif"):
            saved(path, Image.fromarray(picture("RGB")))
        else:
            write_photo(PhotoFile(picture("RGB", dtype), Metadata()), path)
        content = path.read_bytes()
        for share in (0.03, 0.5, 0.9):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(OSError, match=rf"a\.{suffix} cannot be read as an image"):
                read_photo(path)

    @pytest.mark.parametrize("suffix", ["tif", "im"])
    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_levels_without_a_range(self, tmp_path, mode, suffix):
        path = saved(tmp_path / f"a.{suffix}", Image.new(mode, (4, 4), 300))
        with pytest.raises(OSError, match=rf"a\.{suffix} cannot be read as an image: its "):
            read_photo(path)

    def test_too_large(self, tmp_path, monkeypatch):
        path = saved(tmp_path / "a.png", Image.fromarray(picture("RGB")))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
        with pytest.raises(OSError, match=r"a\.png cannot be read as an image.*exceeds limit"):
            read_photo(path)

    def test_an_unknown_suffix(self, tmp_path):
        with pytest.raises(ValueError, match=r"`path` is .*a\.gif; accepted suffixes are \.jpg .*\.bmp"):
            write_photo(PhotoFile(picture("RGB"), Metadata()), tmp_path / "a.gif")

    @pytest.mark.parametrize("dtype", [float, np.int16, bool])
    def test_a_wrong_type(self, tmp_path, dtype):
        with pytest.raises(ValueError, match=rf"is of {np.dtype(dtype)}; accepted is uint8 or uint16"):
            write_photo(PhotoFile(np.zeros((2, 2), dtype), Metadata()), tmp_path / "a.png")

    @pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (4, 4, 5), (1, 4, 4, 3), (0, 4, 3), (4, 0)])
    def test_a_wrong_shape(self, tmp_path, shape):
        with pytest.raises(ValueError, match=rf"the shape \[{', '.join(map(str, shape))}\]; accepted is \[H,W\], "):
            write_photo(PhotoFile(np.zeros(shape, np.uint8), Metadata()), tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("suffix", "longest"), [("jpg", 65500), ("webp", 16383)])
    def test_too_long_a_side(self, tmp_path, suffix, longest):
        path = tmp_path / f"a.{suffix}"
        write_photo(PhotoFile(np.full((1, longest), 7, np.uint8), Metadata()), path)
        assert read_photo(path).pixels.shape[:2] == (1, longest)
        with pytest.raises(ValueError, match=rf"\[{longest + 1}, 1\]; sides .* accepted up to {longest}"):
            write_photo(PhotoFile(np.zeros((longest + 1, 1), np.uint8), Metadata()), path)


class FullDisk:
    """A file with room for 100 bytes."""

    def __init__(self, file):
        self.file, self.room = file, 100

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        if name == "fileno":
            raise AttributeError(name)  # else Pillow would write past this class
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.file.close()


class TestWriting:
    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_full_disk_changes_nothing(self, tmp_path, monkeypatch, suffix, there):
        path = tmp_path / f"a{suffix}"
        if there:
            path.write_bytes(b"before")
        monkeypatch.setattr(Path, "open", lambda file, mode: FullDisk(open(file, mode)))
        with pytest.raises(OSError, match="No space left"):
            write_photo(PhotoFile(picture("RGB", np.uint16), Metadata(icc_profile=SRGB)), path)
        monkeypatch.undo()
        assert [(entry, entry.read_bytes()) for entry in tmp_path.iterdir()] == [(path, b"before")] * there

    def test_replaces_what_was_there(self, tmp_path):
        for kind in ("RGBA", "gray"):
            write_photo(PhotoFile(picture(kind), Metadata()), str(tmp_path / "a.png"))
        np.testing.assert_array_equal(read_photo(str(tmp_path / "a.png")).pixels, picture("gray"))


@pytest.fixture
def pixels():
    """An asymmetric picture [4,6,3]: no row, column or channel equals another."""
    return np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


class TestLoadImage:
    def test_applies_orientation(self, pixels, tmp_path):
        picture = Image.fromarray(pixels)
        exif = picture.getexif()
        exif[0x0112] = 3
        picture.save(tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "turned.png")), pixels[::-1, ::-1])

    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_names_a_file_that_is_no_image(self, tmp_path, content):
        (tmp_path / "face.png").write_bytes(content)
        with pytest.raises(OSError, match=r"face\.png cannot be read as an image"):
            load_image(tmp_path / "face.png")

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_names_a_truncated_file(self, tmp_path, suffix):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[:2000])
        with pytest.raises(OSError, match=rf"cut\{suffix} cannot be read as an image"):
            load_image(cut)

    def test_too_large(self, pixels, tmp_path, monkeypatch):
        Image.fromarray(pixels).save(tmp_path / "face.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(OSError, match=r"face\.png cannot be read as an image.*exceeds limit"):
            load_image(tmp_path / "face.png")

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"absent\.png"):
            load_image(tmp_path / "absent.png")


def test_importing_it_is_light():
    code = f"""
import sys, types
package = types.ModuleType("difface_diffusers")  # in place of the real one, which imports torch
package.__path__ = [{os.path.dirname(difface_diffusers.__file__)!r}]
sys.modules["difface_diffusers"] = package
import difface_diffusers.imaging.files
sys.exit(any(name in sys.modules for name in ("torch", "diffusers", "cv2", "tifffile", "PIL.ImageCms")))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
