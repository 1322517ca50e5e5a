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

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_modes_without_a_range_are_refused(self, mode):
        with pytest.raises(
            ValueError, match=rf"`photo` cannot be used: its levels have no defined range \(mode {mode}\)"
        ):
            split_channels(Image.new(mode, (4, 4)))

    def test_an_empty_picture_is_refused(self):
        with pytest.raises(ValueError, match="`photo` cannot be used: it has no pixels"):
            split_channels(Image.new("RGB", (0, 4)))
