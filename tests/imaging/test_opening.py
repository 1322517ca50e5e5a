import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from tifffile import TiffWriter

from difface_diffusers.imaging.files import load_image, read_photo, write_photo
from difface_diffusers.imaging.opening import READ_SUFFIXES, count_pages, open_image, pages_of, reading, register_heif

from .test_files import turned
from .test_tiff import picture, saved


SMOOTH = np.asarray(Image.fromarray(picture("RGB")).resize((9, 6)).resize((48, 32), Image.Resampling.BICUBIC))
BUILT = {".jpe": "JPEG", ".jfif": "JPEG", ".hif": "HEIF", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM"}
LOSSY = 12


@pytest.fixture
def heif():
    pillow_heif = pytest.importorskip("pillow_heif")

    def save(path, *pictures, **options):
        heif = pillow_heif.HeifFile()
        for pixels in pictures:
            heif.add_from_pillow(Image.fromarray(pixels))
        heif.save(path, quality=95, chroma=444, **options)
        return path

    return save


@pytest.mark.parametrize("suffix", READ_SUFFIXES)
def test_every_kind_is_read(tmp_path, suffix, heif):
    path = tmp_path / f"a{suffix}"
    if suffix in (".heic", ".heif", ".hif"):
        heif(path, SMOOTH)
    else:
        saved(path, Image.fromarray(SMOOTH).convert("1" if suffix == ".pbm" else "RGB"), format=BUILT.get(suffix))
    expected = np.where(SMOOTH > 127, 255, 0) if suffix == ".pbm" else SMOOTH
    for pixels in (read_photo(path).pixels, np.asarray(load_image(path).convert("RGB"))):
        pixels = np.atleast_3d(pixels).astype(int)
        assert pixels.shape[:2] == (32, 48)
        assert suffix == ".pbm" or np.abs(pixels - expected).mean() < LOSSY
    assert count_pages(path) == 1


class TestPages:
    @pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "mpo", "avif", "heic"])
    def test_each_is_read(self, tmp_path, suffix, heif):
        pictures = [np.full((32, 32, 3), color, np.uint8) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
        path = tmp_path / f"a.{suffix}"
        if suffix == "heic":
            heif(path, *pictures)
        else:
            first, *others = map(Image.fromarray, pictures)
            first.save(path, save_all=True, append_images=others)
        assert count_pages(path) == 3
        for page, expected in enumerate(pictures):
            assert np.abs(read_photo(path, page).pixels[..., :3].astype(int) - expected).max() <= LOSSY
        assert np.abs(np.asarray(load_image(path).convert("RGB")).astype(int) - pictures[0]).max() <= LOSSY

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_of_a_tiff_with_all_their_bits(self, tmp_path, dtype, compression):
        top = np.iinfo(dtype).max
        grays = [(picture("gray", dtype) // 3 + shift).astype(dtype) for shift in (0, top // 3)]
        first, second = map(Image.fromarray, grays)
        path = tmp_path / "a.tif"
        first.save(path, save_all=True, append_images=[second], compression=compression)
        for page, gray in enumerate(grays):
            np.testing.assert_array_equal(read_photo(path, page).pixels, gray)

    def test_the_main_one_is_the_first(self, tmp_path, heif):
        path = heif(tmp_path / "a.heic", SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1], primary_index=1)
        with open_image(path) as image:
            assert pages_of(image) == [1, 0, 2]
        assert np.abs(read_photo(path).pixels.astype(int) - SMOOTH[::-1]).mean() < LOSSY
        assert np.abs(read_photo(path, 1).pixels.astype(int) - SMOOTH).mean() < LOSSY

    def test_thumbnails_are_none(self, tmp_path):
        path = tmp_path / "a.tif"
        with TiffWriter(path) as file:
            for pixels, kind in ((SMOOTH, 0), (SMOOTH[::2, ::2], 1), (SMOOTH[::-1], 2)):
                file.write(pixels, photometric="rgb", subfiletype=kind, metadata=None)
        assert count_pages(path) == 2
        np.testing.assert_array_equal(read_photo(path, 1).pixels, SMOOTH[::-1])

    def test_a_header_may_not_promise_them(self, tmp_path):
        image = Image.fromarray(SMOOTH)
        path = tmp_path / "a.png"
        image.save(path, save_all=True, append_images=[image.rotate(180)])
        content = bytearray(path.read_bytes())
        start = content.index(b"acTL")
        struct.pack_into(">L", content, start + 4, 2**31 - 1)
        struct.pack_into(">L", content, start + 12, zlib.crc32(content[start : start + 12]))
        path.write_bytes(content)
        assert count_pages(path) <= 3

    def test_what_cannot_be_read_has_one(self, tmp_path):
        (tmp_path / "a.gif").write_bytes(b"GIF89a")
        assert count_pages(tmp_path / "a.gif") == 1


class TestHeif:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["heic", "avif"])
    def test_is_turned_once(self, tmp_path, suffix, orientation, heif):
        stored = turned(SMOOTH, orientation)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        if suffix == "heic":
            heif(path, stored, exif=exif.tobytes())
        else:
            Image.fromarray(stored).save(path, exif=exif, quality=95)
        photo = read_photo(path)
        assert photo.pixels.shape == SMOOTH.shape and np.abs(photo.pixels.astype(int) - SMOOTH).mean() < LOSSY
        write_photo(photo, tmp_path / "b.jpg")
        assert Image.open(tmp_path / "b.jpg").getexif().get(0x0112, 1) == 1

    def test_the_extra_is_named(self, tmp_path, monkeypatch, heif):
        path = heif(tmp_path / "a.heic", SMOOTH)
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        for read in (read_photo, load_image):
            with pytest.raises(OSError, match=r'a\.heic cannot be read as an image: .*"difface-diffusers\[heif\]"'):
                read(path)

    def test_too_large(self, tmp_path, monkeypatch, heif):
        path = heif(tmp_path / "a.heic", SMOOTH)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
        with pytest.raises(OSError, match=r"48 x 32 pixels, exceeds limit of 1400 pixels"):
            read_photo(path)

    def test_an_open_file(self, tmp_path, heif):
        content = heif(tmp_path / "a.heic", SMOOTH).read_bytes()
        assert load_image(io.BytesIO(content), "memory").size == (48, 32)

    def test_others_may_open_it(self, tmp_path, monkeypatch, heif):
        monkeypatch.setattr(Image, "ID", list(Image.ID))
        monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
        path = heif(tmp_path / "a.heic", SMOOTH)
        register_heif()
        assert Image.open(path).size == (48, 32)


class TestColors:
    @pytest.mark.parametrize("suffix", ["heic", "avif", "jpg", "png", "webp", "tif", "jp2"])
    def test_a_profile_comes_through(self, tmp_path, suffix, heif):
        profile = wide_profile()
        path = tmp_path / f"a.{suffix}"
        if suffix == "heic":
            heif(path, SMOOTH, icc_profile=profile)
        else:
            Image.fromarray(SMOOTH).save(path, icc_profile=profile)
            if suffix == "jp2":
                with_profile(path, profile)
        photo = read_photo(path)
        assert photo.metadata.icc_profile == profile
        assert np.abs(photo.pixels.astype(int) - SMOOTH).mean() < LOSSY
        for target in ("jpg", "png", "webp", "tif"):
            write_photo(photo, tmp_path / f"b.{target}")
            assert read_photo(tmp_path / f"b.{target}").metadata.icc_profile == profile


def wide_profile():
    """A profile that is not sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red = profile.index(b"rXYZ")
    place = int.from_bytes(profile[red + 4 : red + 8])
    return profile[: place + 8] + struct.pack(">l", 40000) + profile[place + 12 :]


def with_profile(path, profile):
    """Put a profile into the header of a JPEG 2000 file."""
    content = path.read_bytes()
    header = content.index(b"jp2h") - 4
    colr = content.index(b"colr") - 4
    size = int.from_bytes(content[colr : colr + 4])
    box = struct.pack(">L4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    grown = int.from_bytes(content[header : header + 4]) + len(box) - size
    content = content[:colr] + box + content[colr + size :]
    path.write_bytes(content[:header] + struct.pack(">L", grown) + content[header + 4 :])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RecursionError("deep"), "RecursionError deep"),
        (struct.error("short"), "short"),
        (SyntaxError("odd"), "odd"),
        (NotImplementedError("pixel format 61"), "NotImplementedError pixel format 61"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError by zero"),
        (KeyError(7), "KeyError 7"),
        (MemoryError(), "MemoryError"),
        (Image.DecompressionBombError("too large"), "too large"),
    ],
)
def test_whatever_a_decoder_raises_names_the_file(error, said):
    with pytest.raises(OSError, match=rf"^a\.png cannot be read as an image: {said}$"), reading("a.png"):
        raise error


def test_an_interruption_stays_one():
    with pytest.raises(KeyboardInterrupt), reading("a.png"):
        raise KeyboardInterrupt


def test_eps_is_not_handed_to_another_program(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.png", "EPS")
    with pytest.raises(OSError, match="EPS holds drawings"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("place", ["first", "second"])
def test_values_upon_each_other_do_not_fill_the_memory(tmp_path, place):
    path = tmp_path / "a.tif"
    count, size = 200, 100_000
    entries = b"".join(struct.pack("<HHLL", 40000 + number, 7, size, 8) for number in range(count))
    directory = struct.pack("<H", count) + entries + bytes(4)
    if place == "first":
        path.write_bytes(struct.pack("<4sL", b"II*\0", 8) + directory + bytes(size))
    else:
        Image.fromarray(SMOOTH).save(path)
        content = bytearray(path.read_bytes())
        (start,) = struct.unpack_from("<L", content, 4)
        (tags,) = struct.unpack_from("<H", content, start)
        struct.pack_into("<L", content, start + 2 + 12 * tags, len(content))
        path.write_bytes(content + directory + bytes(size))
    with pytest.raises(struct.error, match="a directory of 200 tags claims more than the"):
        open_image(path)
    assert count_pages(path) == 1
