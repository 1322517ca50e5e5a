import numpy as np
import pytest
from PIL import Image

from difface_diffusers.imaging.exif import read_exif
from difface_diffusers.imaging.pixels import join_channels, split_channels

from .test_tiff import exif_with


class TestChannels:
    RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("channels", [None, 2, 3, 4])
    def test_splitting_and_joining_is_lossless(self, dtype, channels):
        levels = np.arange(4 * 5 * (channels or 1)).reshape(4, 5, *([channels] if channels else []))
        photo = (levels / 100).astype(dtype) if dtype == np.float32 else levels.astype(dtype)
        rgb, alpha = split_channels(photo)
        assert rgb.shape == (4, 5, 3) and rgb.dtype == (np.uint8 if dtype == np.uint8 else np.uint16)
        assert (alpha is None) == (channels not in (2, 4))
        back = join_channels(rgb, alpha, like=photo, gray=True)
        assert back.dtype == photo.dtype and back.shape == photo.shape
        np.testing.assert_allclose(back, photo, atol=1e-5)

    @pytest.mark.parametrize("dtype", [">u2", ">f4", ">f8", np.float16, np.longdouble])
    def test_unusual_numbers(self, dtype):
        levels = np.linspace(0, 65535, 4 * 5 * 3).round().reshape(4, 5, 3)
        photo = (levels if dtype == ">u2" else levels / 65535).astype(dtype)
        rgb, _ = split_channels(photo)
        assert rgb.dtype == np.uint16 and rgb.dtype.isnative
        np.testing.assert_allclose(rgb, levels, atol=16 if dtype == np.float16 else 1)

    def test_masked_arrays_are_refused(self):
        with pytest.raises(TypeError, match="`photo` is a masked array; accepted is one without"):
            split_channels(np.ma.masked_array(self.RGB, self.RGB > 20))

    def test_colors_for_a_gray_photograph(self):
        assert join_channels(self.RGB, None, like=self.RGB[..., 0], gray=False).shape == (4, 5, 3)
        assert join_channels(self.RGB, None, like=Image.new("L", (5, 4)), gray=False).mode == "RGB"
        assert join_channels(self.RGB, None, like=Image.new("L", (5, 4)), gray=True).mode == "L"

    def test_a_profile_of_other_colors_is_not_handed_on(self):
        like = Image.new("CMYK", (5, 4))
        like.info["icc_profile"] = bytes(16) + b"CMYK"
        assert "icc_profile" not in join_channels(self.RGB, None, like=like, gray=True).info

    def test_the_exif_of_a_file_is_handed_on_as_it_was(self, tmp_path):
        tags = {271: (2, "© José\0".encode()), 282: (2, b"300\0"), 49443: (11, b"\1\2\3\4")}
        counts = {271: 9, 282: 4, 49443: 1}
        exif = exif_with(
            {274: (3, 1, b"\3\0")} | {tag: (kind, counts[tag], value) for tag, (kind, value) in tags.items()}
        )
        Image.fromarray(self.RGB).save(tmp_path / "a.png", exif=exif)
        like = Image.open(tmp_path / "a.png")
        for _ in range(2):  # nothing of it changes
            rgb, _ = split_channels(like)
            np.testing.assert_array_equal(rgb, self.RGB[::-1, ::-1])
            assert read_exif(join_channels(rgb, None, like=like, gray=True).info["exif"]) == (tags, "<")

    def test_how_a_tiff_stores_its_pixels_is_not_handed_on(self, tmp_path):
        Image.fromarray(self.RGB).save(tmp_path / "a.tif", tiffinfo={271: "Camera"})
        info = join_channels(self.RGB, None, like=Image.open(tmp_path / "a.tif"), gray=True).info
        assert read_exif(info["exif"])[0] == {271: (2, b"Camera\0")}

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (Image.new("F", (4, 4)), r"no defined range \(mode F\)"),
            (Image.new("I", (4, 4), -1), "-1 .. -1, lie outside 0 .. 65535"),
            (Image.new("I", (4, 4), 65536), "65536 .. 65536, lie outside 0 .. 65535"),
        ],
    )
    def test_levels_without_a_range_are_refused(self, image, reason):
        with pytest.raises(ValueError, match=rf"`photo` cannot be used: its levels.* {reason}"):
            split_channels(image)

    @pytest.mark.parametrize(("brightest", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
    def test_integers_are_of_8_bits_if_they_fit(self, brightest, dtype):
        levels = np.array([[0, 1], [2, brightest]])
        like = Image.fromarray(levels.astype(np.int32))
        rgb, alpha = split_channels(like)
        assert like.mode == "I" and rgb.dtype == dtype and alpha is None
        np.testing.assert_array_equal(rgb[..., 2], levels)
        assert join_channels(rgb, alpha, like=like, gray=True).mode == ("L" if dtype == np.uint8 else "I;16")

    def test_a_dark_picture_known_to_have_16_bits_stays_dark(self, tmp_path):
        (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n\0\1\0\2")
        rgb, _ = split_channels(Image.open(tmp_path / "a.pgm"))
        assert rgb.dtype == np.uint16 and rgb[0, :, 0].tolist() == [1, 2]

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "P", "PA", "RGBa", "LAB"])
    def test_gray_stays_gray_and_colors_colors(self, mode):
        is_color = mode[0] in "PR" or mode == "LAB"
        like = Image.new(mode, (5, 4))
        rgb, alpha = split_channels(like)
        assert (alpha is not None) == (mode[-1] in "Aa" and mode != "LAB")
        bands = join_channels(rgb, alpha, like=like, gray=True).getbands()
        assert len(bands) == (3 if is_color else 1) + (alpha is not None)

    def test_an_empty_picture_is_refused(self):
        with pytest.raises(ValueError, match="`photo` cannot be used: it has no pixels"):
            split_channels(Image.new("RGB", (0, 4)))
