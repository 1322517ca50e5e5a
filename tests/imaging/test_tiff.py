import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from difface_diffusers.imaging.files import read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from difface_diffusers.imaging.pixels import strips


SHAPES = {"gray": (24, 40), "gray and alpha": (24, 40, 2), "RGB": (24, 40, 3), "RGBA": (24, 40, 4)}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKER_NOTE = bytes(range(1, 100))
THUMBNAIL = b"\xff\xd8 the old picture \xff\xd9"


def picture(kind, dtype=np.uint8):
    """A smooth picture without symmetry whose low bytes matter."""
    y, x = np.mgrid[0:24, 0:40]
    planes = [x * 900 + y * 777 + 3, 60001 - x * 800 - y * 400, x * y * 30 + 777, 65535 - x * 1500]
    planes = {"gray": planes[:1], "gray and alpha": [planes[0], planes[3]], "RGB": planes[:3], "RGBA": planes}[kind]
    pixels = np.dstack(planes).astype(np.uint16)
    pixels = pixels if dtype == np.uint16 else (pixels >> 8).astype(np.uint8)
    return pixels[..., 0] if kind == "gray" else pixels


def tiff_directory(order, place, entries, following=0):
    """A directory from {tag: (kind, count, value as bytes)}, to be put at `place`."""
    table, values = struct.pack(order + "H", len(entries)), b""
    start = place + 6 + 12 * len(entries)
    for tag, (kind, count, value) in sorted(entries.items()):
        if len(value) > 4:
            value, values = struct.pack(order + "L", start + len(values)), values + value + bytes(len(value) % 2)
        table += struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")
    return table + struct.pack(order + "L", following) + values


def exif_of(orientation=6, order="<"):
    """EXIF of a camera: place, date, text that is not ASCII, a maker note, and a second directory with a thumbnail."""

    def short(value):
        return (3, 1, struct.pack(order + "H", value))

    def pointer(value):
        return (4, 1, struct.pack(order + "L", value))

    exif = {0x9003: (2, 20, b"2019:08:07 06:05:04\0"), 0x927C: (7, len(MAKER_NOTE), MAKER_NOTE), 0xA002: short(4000)}
    gps = {1: (2, 2, b"N\0"), 2: (5, 3, struct.pack(order + "6L", 52, 1, 31, 1, 12345, 1000))}
    main = {
        0x010F: (2, 7, b"Camera\0"),
        0x0112: short(orientation),
        0x8298: (2, 9, "© José\0".encode()),
        0x8769: pointer(400),
        0x8825: pointer(800),
    }
    small = {0x0201: pointer(1100), 0x0202: pointer(len(THUMBNAIL))}
    header = struct.pack(order + "2sHL", b"II" if order == "<" else b"MM", 42, 8)
    parts = {
        0: header + tiff_directory(order, 8, main, following=1000),
        400: tiff_directory(order, 400, exif),
        800: tiff_directory(order, 800, gps),
        1000: tiff_directory(order, 1000, small),
        1100: THUMBNAIL,
    }
    block = bytearray(1100 + len(THUMBNAIL))
    for place, part in parts.items():
        block[place : place + len(part)] = part
    return bytes(block)


def exif_with(entries):
    return struct.pack("<2sHL", b"II", 42, 8) + tiff_directory("<", 8, entries)


def tags_of(exif):
    tags = Image.Exif()
    tags.load(exif)
    return tags


def tiff(path, pixels, photometric, order="<", **tags):
    """A TIFF without compression; `tags` as t277=[1] for shorts."""
    height, width = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    samples = pixels[0, 0].size
    shorts = {256: [width], 257: [height], 258: [pixels.itemsize * 8] * samples, 259: [1], 262: [photometric]}
    shorts |= {273: [8], 277: [samples], 278: [height], 279: [len(data)]}
    shorts |= {int(tag[1:]): numbers for tag, numbers in tags.items()}
    entries = {tag: (3, len(ns), struct.pack(f"{order}{len(ns)}H", *ns)) for tag, ns in shorts.items() if ns}
    header = struct.pack(order + "2sHL", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    path.write_bytes(header + data + tiff_directory(order, 8 + len(data), entries))
    return path


def saved(path, image, **options):
    image.save(path, **options)
    return path


class TestRead:
    @pytest.mark.parametrize("kind", ["gray", "RGB", "RGBA"])
    def test_16_bit_tiff_of_opencv(self, tmp_path, kind):
        pixels = picture(kind, np.uint16)
        channels = {"RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}.get(kind)
        cv2.imwrite(str(tmp_path / "a.tif"), pixels[..., channels] if channels else pixels)  # LZW with predictor
        np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, pixels)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", SHAPES)
    def test_16_bit_tiff_of_others(self, tmp_path, kind, order):
        pixels = picture(kind, np.uint16)
        alpha = [2] if "lpha" in kind or "A" in kind else []
        path = tiff(tmp_path / "a.tif", pixels, 2 if "RGB" in kind else 1, order, t338=alpha)
        back = read_photo(path).pixels
        assert back.dtype == np.uint16
        np.testing.assert_array_equal(back, pixels)

    def test_16_bit_tiff_in_tiles(self, tmp_path):
        pixels = np.pad(picture("RGB", np.uint16), ((0, 8), (0, 8), (0, 0)))
        tiles = [pixels[y : y + 16, x : x + 16].copy() for y in (0, 16) for x in (0, 16, 32)]
        for tile in tiles:
            tile[:, 1:] -= tile[:, :-1].copy()
        size, tags = 16 * 16 * 6, {"t256": [40], "t257": [24], "t273": [], "t278": [], "t279": [], "t317": [2]}
        tags |= {"t322": [16], "t323": [16], "t324": [8 + size * i for i in range(6)], "t325": [size] * 6}
        path = tiff(tmp_path / "a.tif", np.concatenate(tiles), 2, **tags)
        np.testing.assert_array_equal(read_photo(path).pixels, picture("RGB", np.uint16))

    def test_16_bit_tiff_where_0_is_white(self, tmp_path):
        pixels = picture("gray", np.uint16)
        np.testing.assert_array_equal(read_photo(tiff(tmp_path / "a.tif", 65535 - pixels, 0)).pixels, pixels)

    def test_premultiplied_alpha_becomes_straight(self, tmp_path):
        stored = np.array([[[100, 20000, 30000, 30000], [7, 0, 0, 0], [1, 2, 3, 65535]]], np.uint16)
        path = tiff(tmp_path / "a.tif", stored, 2, t338=[1])
        expected = [[[218, 43690, 65535, 30000], [65535, 0, 0, 0], [1, 2, 3, 65535]]]
        assert read_photo(path).pixels.tolist() == expected

    def test_a_fourth_channel_that_is_not_alpha(self, tmp_path):
        pixels = picture("RGBA", np.uint16)
        path = tiff(tmp_path / "a.tif", pixels, 2, t338=[0])
        np.testing.assert_array_equal(read_photo(path).pixels, pixels[..., :3])


class TestMetadata:
    def test_of_a_tiff_is_only_what_fits_another_file(self, tmp_path):
        tags = {270: b"A\0", 34377: b"layers of Photoshop"}
        tags = {tag: (2, len(text), text) for tag, text in tags.items()}
        write_photo(
            PhotoFile(picture("RGB"), Metadata(exif_with(tags), SRGB, b"<x:xmpmeta/>", (240, 240))), tmp_path / "a.tif"
        )
        assert set(tags_of(read_photo(tmp_path / "a.tif").metadata.exif)) == {270, 282, 283, 296}

    def test_resolution_in_centimeters_or_without_a_unit(self, tmp_path):
        write_photo(PhotoFile(picture("gray"), Metadata(dpi=(300, 300))), tmp_path / "a.tif")
        content = (tmp_path / "a.tif").read_bytes()
        unit = struct.pack("<HHLH", 296, 3, 1, 2)
        assert content.count(unit) == 1
        for code, dpi in ((3, (762, 762)), (1, None)):
            (tmp_path / "a.tif").write_bytes(content.replace(unit, struct.pack("<HHLH", 296, 3, 1, code)))
            assert read_photo(tmp_path / "a.tif").metadata.dpi == dpi

    @pytest.mark.parametrize("broken", [b"nothing", b"II*\0", b"II*\0\xff\xff\0\0", exif_of()[:30]])
    def test_broken_exif_is_left_out(self, tmp_path, broken):
        path = saved(tmp_path / "a.png", Image.fromarray(picture("RGB")), exif=b"Exif\0\0" + broken)
        photo = read_photo(path)
        assert photo.metadata.exif is None
        np.testing.assert_array_equal(photo.pixels, picture("RGB"))

    def test_a_broken_entry_does_not_cost_the_others(self, tmp_path):
        cut = exif_of()[:840]  # in the middle of the place
        path = saved(tmp_path / "a.png", Image.fromarray(picture("RGB")), exif=b"Exif\0\0" + cut)
        exif = read_photo(path).metadata.exif
        assert tags_of(exif)[0x010F] == "Camera"
        assert set(tags_of(exif).get_ifd(0x8825)) == {1}


@pytest.mark.parametrize("shape", [(1, 1), (24, 40, 3), (2, 2**19), (2**16 + 1, 4)])
def test_strips_cover_every_row_once(shape):
    rows = [row for strip in strips(np.empty(shape, np.uint8)) for row in range(shape[0])[strip]]
    assert rows == list(range(shape[0]))


class TestErrors:
    @pytest.mark.parametrize("tags", [{"t258": [12]}, {"t339": [2]}, {"t284": [2]}, {"t338": [0, 0], "t277": [5]}])
    def test_kinds_of_tiff_that_are_not_read(self, tmp_path, tags):
        path = tiff(tmp_path / "a.tif", picture("RGB", np.uint16), 2, **tags)
        with pytest.raises(OSError, match=r"a\.tif cannot be read as an image: its samples"):
            read_photo(path)

    def test_a_tiff_that_pillow_would_mix_up(self, tmp_path):
        path = tiff(tmp_path / "a.tif", picture("gray and alpha"), 1, t284=[2], t338=[2])
        with pytest.raises(OSError, match=r"a\.tif cannot be read as an image: its samples"):
            read_photo(path)

    @pytest.mark.parametrize(("kind", "compression"), [("gray and alpha", 5), ("RGB", 50000)])
    def test_an_unusual_compression(self, tmp_path, kind, compression):
        path = tiff(tmp_path / "a.tif", picture(kind, np.uint16), 2 if kind == "RGB" else 1, t259=[compression])
        with pytest.raises(OSError, match=r"a\.tif cannot be read as an image: .* compressed in an unusual way"):
            read_photo(path)

    @pytest.mark.parametrize("tile", [None, (16, 16)])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_cut_short_behind_its_directory(self, tmp_path, compression, tile):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, picture("RGB", np.uint16), photometric="rgb", compression=compression, tile=tile)
        content = path.read_bytes()
        for share in (0.5, 0.9):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(OSError, match=r"a\.tif cannot be read as an image: it is broken, cut short"):
                read_photo(path)

    def test_tiles_without_width(self, tmp_path):
        path = tiff(tmp_path / "a.tif", picture("RGB", np.uint16), 2, t322=[0], t323=[16], t324=[8], t325=[99])
        with pytest.raises(OSError, match=r"a\.tif cannot be read as an image: it is broken"):
            read_photo(path)

    def test_too_large(self, tmp_path, monkeypatch):
        path = tiff(tmp_path / "a.tif", picture("RGB", np.uint16), 2)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 479)
        with pytest.raises(
            OSError, match=r"a\.tif cannot be read as an image: .* 40 x 24 pixels, exceeds limit of 958"
        ):
            read_photo(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 480)
        np.testing.assert_array_equal(read_photo(path).pixels, picture("RGB", np.uint16))
