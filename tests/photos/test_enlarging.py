import numpy as np
import pytest

from difface_diffusers.photos.enlarging import enlarge, fill_invisible
from difface_diffusers.photos.upscale import upscale_lanczos, upscale_nearest


COLOR = np.array((255, 230, 200))


def cut_out(levels, edge=(0, 255)):
    """A disc of one color on invisible black, `[40,50,3]` and `[40,50]`; its rim has the alphas `edge` of 255."""
    y, x = np.mgrid[0:40, 0:50]
    radius = np.hypot(x - 25, y - 20)
    alpha = np.where(radius < 11, 255, np.where(radius < 12, edge[1], np.where(radius < 13, edge[0], 0)))
    rgb = np.where(alpha[..., None] > 0, COLOR, 0)
    return (part.astype(np.uint16) * 257 if levels == 65535 else part.astype(np.uint8) for part in (rgb, alpha))


class TestEnlarge:
    @pytest.mark.parametrize("levels", [255, 65535])
    @pytest.mark.parametrize("edge", [(0, 255), (1, 128), (40, 200)])
    @pytest.mark.parametrize(
        ("background", "factor"), [(upscale_lanczos, 2), (upscale_lanczos, 3.3), (upscale_nearest, 2)]
    )
    def test_no_invisible_color_bleeds_into_the_rim(self, levels, edge, background, factor):
        rgb, alpha = cut_out(levels, edge)
        enlarged, opacity = enlarge(rgb, alpha, (round(40 * factor), round(50 * factor)), background)
        assert enlarged.dtype == opacity.dtype == rgb.dtype
        colors = enlarged / levels * 255
        assert np.abs(colors - COLOR)[opacity > 0.01 * levels].max() < 1
        share = opacity[..., None] / levels
        assert (share * colors + (1 - share) * 255 > COLOR - 1).all()
        assert np.abs(colors - COLOR).max() < 1  # sensible where nothing is seen, too

    @pytest.mark.parametrize("background", [upscale_lanczos, upscale_nearest])
    def test_colors_show_in_proportion_to_their_alpha(self, background):
        """What lies on black after enlarging is what lay on black, enlarged."""
        rng = np.random.default_rng(0)
        rgb, alpha = rng.integers(0, 65536, (30, 20, 3), np.uint16), rng.integers(9000, 56000, (30, 20), np.uint16)
        enlarged, opacity = enlarge(rgb, alpha, (60, 40), background)
        on_black = np.rint(rgb * (alpha[..., None] / 65535)).astype(np.uint16)
        expected, _ = enlarge(on_black, None, (60, 40), background)
        clipped = (enlarged == 65535) | (enlarged == 0)
        assert np.abs(enlarged * (opacity[..., None] / 65535) - expected)[~clipped].max() < 4

    def test_opaque_pixels_are_as_without_alpha(self):
        rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
        alpha = np.full((40, 30), 255, np.uint8)
        plain, _ = enlarge(rgb, None, (80, 60), upscale_lanczos)
        opaque, opacity = enlarge(rgb, alpha, (80, 60), upscale_lanczos)
        np.testing.assert_array_equal(opaque, plain)
        assert (opacity == 255).all()
        alpha[:5] = 0
        np.testing.assert_array_equal(enlarge(rgb, alpha, (80, 60), upscale_lanczos)[0][20:], plain[20:])

    def test_nothing_changes_at_the_same_size(self):
        rgb, alpha = cut_out(255, (3, 100))
        for part, same in zip((rgb, alpha), enlarge(rgb, alpha, (40, 50), upscale_lanczos), strict=True):
            np.testing.assert_array_equal(part, same)


def test_fill_invisible():
    rgb = np.zeros((9, 7, 3), np.uint8)
    alpha = np.zeros((9, 7), np.uint8)
    assert fill_invisible(rgb, alpha) is rgb and fill_invisible(rgb, None) is rgb
    rgb[0, 0], alpha[0, 0] = (10, 20, 30), 1
    rgb[8, 6], alpha[8, 6] = (200, 100, 0), 255
    filled = fill_invisible(rgb, alpha)
    assert (filled[0, 0] == rgb[0, 0]).all() and (filled[8, 6] == rgb[8, 6]).all()
    np.testing.assert_allclose(filled[7, 6], (200, 100, 0), atol=60)
    assert filled[..., 0].min() >= 10


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_share_of_lanczos(dtype):
    rng, levels = np.random.default_rng(0), np.iinfo(dtype).max
    photo = rng.integers(0, levels + 1, (12, 15, 3)).astype(dtype)
    whole, plain = upscale_nearest(photo, (24, 30)).astype(float), upscale_lanczos(photo, (24, 30)).astype(float)
    for blend in (0, 0.25, 1):
        enlarged, _ = enlarge(photo, None, (24, 30), upscale_nearest, blend)
        assert enlarged.dtype == dtype
        assert np.abs(enlarged - (blend * whole + (1 - blend) * plain)).max() <= 0.51
