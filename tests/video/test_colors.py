from itertools import product

import av
import numpy as np
import pytest

from difface_diffusers.video.chroma import downsample, upsample
from difface_diffusers.video.colors import Colors, colors_of, from_rgb, to_rgb

from .clips import planes


SIZE = (48, 64)
BT601, BT709, BT2020 = 6, 1, 9
# What the standards say of red, green and blue, in 8 bits: (Y, U, V) by matrix and range.
PRIMARIES = {
    (BT601, False): [(81, 90, 240), (145, 54, 34), (41, 240, 110)],
    (BT709, False): [(63, 102, 240), (173, 42, 26), (32, 240, 118)],
    (BT601, True): [(76, 85, 255), (150, 44, 21), (29, 255, 107)],
    (BT709, True): [(54, 99, 255), (182, 30, 12), (18, 255, 116)],
}
FORMATS = ["yuv420p", "yuv422p", "yuv444p"]


def smooth(dtype=np.uint8, size=SIZE):
    """RGB whose levels change by one or two from pixel to pixel, and hold black and white nowhere."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = np.stack([np.sin(x / 60), np.cos(y / 50), np.sin((x + y) / 70)], -1)
    return np.round((0.5 + 0.4 * waves) * np.iinfo(dtype).max).astype(dtype)


def levels(pixels):
    """Any pixels as floats, in levels of 8 bits."""
    return pixels.astype(float) / (257 if pixels.dtype == np.uint16 else 1)


class TestToRGB:
    @pytest.mark.parametrize(("matrix", "full"), PRIMARIES)
    def test_red_green_and_blue_by_matrix_and_range(self, matrix, full):
        for channel, yuv in enumerate(PRIMARIES[matrix, full]):
            pixels = to_rgb(planes(yuv, "yuv420p"), Colors(matrix, full))
            assert pixels.shape == (*SIZE, 3) and pixels.dtype == np.uint8
            assert np.abs(pixels - 255.0 * np.eye(3)[channel]).max() <= 3  # the table is rounded

    @pytest.mark.parametrize(("matrix", "full"), [(BT601, False), (BT709, False)])
    def test_ten_bits_reach_65535(self, matrix, full):
        for channel, yuv in enumerate(PRIMARIES[matrix, full]):
            pixels = to_rgb(planes([4 * level for level in yuv], "yuv422p10le"), Colors(matrix, full))
            assert pixels.dtype == np.uint16
            assert np.abs(levels(pixels) - 255.0 * np.eye(3)[channel]).max() <= 3

    @pytest.mark.parametrize(
        ("pixel_format", "black", "white"),
        [("yuv444p", 16, 235), ("yuv444p10le", 64, 940), ("yuv420p12le", 256, 3760)],
    )
    def test_black_and_white_are_exact(self, pixel_format, black, white):
        bits = av.VideoFormat(pixel_format).components[0].bits
        for level, value in ((black, 0), (white, 1)):
            pixels = to_rgb(planes((level, 2 ** (bits - 1), 2 ** (bits - 1)), pixel_format), Colors(BT709, False))
            assert (pixels == value * np.iinfo(pixels.dtype).max).all()

    def test_levels_beyond_white_are_clipped(self):
        assert (to_rgb(planes((254, 128, 128), "yuv444p"), Colors(BT709, False)) == 255).all()

    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("pixel_format", ["nv12", "yuyv422", "uyvy422", "yuva420p", "p010le", "yuv444p16be"])
    def test_other_packings_keep_colors(self, pixel_format, full):
        colors = Colors(BT601, full)
        plain = from_rgb(smooth(), "yuv444p", colors)
        value = 2 if full else 1
        packed = plain.reformat(format=pixel_format, src_color_range=value, dst_color_range=value)
        assert np.abs(levels(to_rgb(packed, colors)) - smooth())[2:-2, 2:-2].max() < 4

    def test_gray(self):
        frame = av.VideoFrame.from_ndarray(np.full(SIZE, 77, np.uint8), format="gray")
        assert (to_rgb(frame, colors_of(frame)) == 77).all()

    @pytest.mark.parametrize("pixel_format", ["rgb24", "bgr0", "gbrp"])
    def test_rgb_is_unpacked(self, pixel_format):
        frame = av.VideoFrame.from_ndarray(smooth(), format="rgb24").reformat(format=pixel_format)
        np.testing.assert_array_equal(to_rgb(frame, colors_of(frame)), smooth())

    @pytest.mark.parametrize("pixel_format", ["gbrp10le", "gbrp12le", "rgb48le"])
    def test_deep_rgb_is_unpacked(self, pixel_format):
        frame = av.VideoFrame.from_ndarray(smooth(np.uint16), format="rgb48le").reformat(format=pixel_format)
        pixels = to_rgb(frame, colors_of(frame))
        assert pixels.dtype == np.uint16
        assert np.abs(levels(pixels) - levels(smooth(np.uint16))).max() <= 255 / 1023


class TestColorsOf:
    @pytest.mark.parametrize(("height", "matrix"), [(718, BT601), (720, BT709)])
    def test_unknown_ones_are_guessed_by_height(self, height, matrix):
        frame = planes((16, 128, 128), "yuv420p", (height, 16))
        assert colors_of(frame) == Colors(matrix, False, 2, 2)

    def test_known_ones_are_kept(self):
        frame = planes((16, 128, 128), "yuv420p", colorspace=BT2020, color_range=2)
        frame.color_primaries, frame.color_trc = 9, 16
        assert colors_of(frame) == Colors(BT2020, True, 9, 16)

    @pytest.mark.parametrize("pixel_format", ["yuvj420p", "gray"])
    def test_what_is_full_range_unless_told_otherwise(self, pixel_format):
        frame = av.VideoFrame(16, 16, pixel_format)
        assert colors_of(frame).full_range
        frame.color_range = 1
        assert not colors_of(frame).full_range

    def test_rgb_has_no_matrix(self):
        assert colors_of(av.VideoFrame(16, 16, "rgb24")).matrix == 0


class TestThereAndBack:
    @pytest.mark.parametrize(
        ("matrix", "full", "pixel_format"), [*product([BT601, BT709, BT2020], [False, True], FORMATS)]
    )
    def test_8_bits(self, matrix, full, pixel_format):
        colors = Colors(matrix, full)
        difference = levels(to_rgb(from_rgb(smooth(), pixel_format, colors), colors)) - smooth()
        inside = difference[2:-2, 2:-2]
        assert np.abs(inside).max() <= 2
        assert np.abs(inside.mean((0, 1))).max() < 0.1, "colors drift"

    @pytest.mark.parametrize(("matrix", "full", "pixel_format"), [*product([BT601, BT709], [False, True], FORMATS)])
    def test_10_bits(self, matrix, full, pixel_format):
        colors, pixels = Colors(matrix, full), smooth(np.uint16)
        difference = levels(to_rgb(from_rgb(pixels, f"{pixel_format}10le", colors), colors)) - levels(pixels)
        inside = difference[2:-2, 2:-2]
        assert np.abs(inside).max() <= 0.6
        assert np.abs(inside.mean((0, 1))).max() < 0.02

    @pytest.mark.parametrize("pixel_format", FORMATS)
    def test_ten_generations_stay_within_a_level(self, pixel_format):
        """Hard edges of color too: what a decoder gives comes back as it was, but for rounding."""
        colors = Colors(BT709, False)
        noise = np.random.default_rng(0).integers(90, 160, (*SIZE, 3), dtype=np.uint8)
        first = last = from_rgb(noise, pixel_format, colors)
        for _ in range(10):
            last = from_rgb(to_rgb(last, colors), pixel_format, colors)
        for before, after in zip(first.planes, last.planes, strict=True):
            assert np.abs(np.frombuffer(before, np.uint8).astype(int) - np.frombuffer(after, np.uint8)).max() <= 2

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (7, 4), (47, 63)])
    def test_odd_and_tiny_sizes(self, size):
        colors, pixels = Colors(BT709, False), np.full((*size, 3), (200, 30, 90), np.uint8)
        assert np.abs(levels(to_rgb(from_rgb(pixels, "yuv420p", colors), colors)) - pixels).max() <= 2

    def test_8_bits_for_an_encoder_of_10(self):
        colors = Colors(BT709, False)
        assert np.abs(levels(to_rgb(from_rgb(smooth(), "yuv444p10le", colors), colors)) - smooth()).max() < 0.6


class TestChroma:
    @pytest.mark.parametrize("ratios", [(1, 1), (1, 2), (2, 1), (2, 2)])
    def test_going_down_undoes_going_up(self, ratios):
        plane = np.random.default_rng(0).random((9, 12)).astype(np.float32)
        up = upsample(plane, 9 * ratios[0], 12 * ratios[1], ratios)
        assert up.shape == (9 * ratios[0], 12 * ratios[1])
        np.testing.assert_allclose(downsample(up, ratios), plane, atol=1e-5)

    @pytest.mark.parametrize("ratios", [(2, 2), (1, 4), (4, 4), (2, 1)])
    def test_samples_lie_on_their_first_column_and_between_rows(self, ratios):
        down, across = ratios
        y, x = np.mgrid[:8, :8].astype(np.float32)
        across_ramp = upsample(x, 8 * down, 8 * across, ratios)
        np.testing.assert_allclose(across_ramp[0, : 7 * across], np.arange(7 * across) / across, atol=1e-6)
        down_ramp = upsample(y, 8 * down, 8 * across, ratios)
        places = (np.arange(8 * down) + 0.5) / down - 0.5
        np.testing.assert_allclose(down_ramp[down:-down, 0], places[down:-down], atol=1e-6)
