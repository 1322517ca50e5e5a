from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from difface_diffusers.photos.swin2sr import Swin2SRUpscaler
from difface_diffusers.photos.upscale import load_upscaler


class LinearNetwork(torch.nn.Module):
    """Stands in for Swin2SR: enlarges by 2, bilinearly, so that ramps stay straight; notes the sides it was given."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, **config):
        super().__init__()
        accepted = {"upsampler": "pixelshuffle", "num_channels": 3, "num_channels_out": 3, "patch_size": 1}
        others = {"use_absolute_embeddings": False, "upscale": 2, "window_size": 8}
        self.config = SimpleNamespace(**{**accepted, **others, **config})
        self.shapes = []

    def forward(self, pixel_values):
        self.shapes.append(tuple(pixel_values.shape[-2:]))
        assert pixel_values.min() >= 0 and pixel_values.max() <= 1
        return SimpleNamespace(reconstruction=F.interpolate(pixel_values, scale_factor=2.0, mode="bilinear"))


def tiny_swin2sr():
    """A real Swin2SR, so small that an overlap of 16 covers its receptive field."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Swin2SRConfig(
        image_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=4, initializer_range=0.3
    )
    return transformers.Swin2SRForImageSuperResolution(config).eval()


@pytest.fixture(scope="module")
def network():
    return tiny_swin2sr()


def noise(height, width, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, 3)).astype(dtype)


def ramp(height, width, step):
    """A 16-bit plane: red rises by `step` per column, green by `step` per row, blue falls by `step` per row."""
    rows, columns = np.mgrid[:height, :width] * step + 1000
    return np.stack([columns, rows, 60000 - rows], axis=-1).astype(np.uint16)


class TestTiling:
    """With a network whose result is known."""

    @pytest.mark.parametrize("size", [(100, 126), (75, 95), (131, 149), (51, 64), (173, 311)])
    def test_no_shift(self, size):
        photo = ramp(50, 63, step=400)
        result = Swin2SRUpscaler(LinearNetwork(), tile_size=16, overlap=8)(photo, size)
        rows, columns = ((np.arange(n) + 0.5) * side / n - 0.5 for n, side in zip(size, (50, 63), strict=True))
        rows, columns = np.meshgrid(rows, columns, indexing="ij")
        expected = np.stack([columns * 400 + 1000, rows * 400 + 1000, 59000 - rows * 400], axis=-1)
        inside = (rows > 3) & (rows < 46) & (columns > 3) & (columns < 59)  # filters bend a ramp at its ends
        assert np.abs(result - expected)[inside].max() < 0.02 * 400  # of a pixel of the photo

    @pytest.mark.parametrize("size", [(100, 126), (75, 95), (173, 311), (50, 64)])
    def test_no_seams(self, size):
        photo = noise(50, 63, np.uint16)
        tiled = Swin2SRUpscaler(LinearNetwork(), tile_size=16, overlap=8)(photo, size)
        whole = Swin2SRUpscaler(LinearNetwork(), tile_size=63)(photo, size)
        # Pillow rounds the corners of a tile to single precision.
        np.testing.assert_allclose(tiled.astype(int), whole.astype(int), atol=30)

    def test_own_factor_is_not_resampled(self):
        photo = noise(21, 30, np.uint16)
        result = Swin2SRUpscaler(LinearNetwork(), tile_size=16, overlap=8)(photo, (42, 60))
        plain = F.interpolate(
            torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None], scale_factor=2.0, mode="bilinear"
        )
        expected = plain[0].permute(1, 2, 0).clamp(0, 65535).numpy()
        inside = np.s_[:-4, :-4]  # beyond lies the padding to whole windows
        assert np.abs(result[inside] - expected[inside]).max() < 1

    def test_all_borders_are_treated_alike(self):
        photo = noise(9, 14, np.uint16)
        upscaler = Swin2SRUpscaler(LinearNetwork(), tile_size=14)
        turned = upscaler(photo[::-1, ::-1], (20, 31))[::-1, ::-1]
        np.testing.assert_allclose(turned.astype(int), upscaler(photo, (20, 31)).astype(int), atol=30)

    def test_sixteen_bits(self):
        photo = ramp(40, 40, step=3)
        result = Swin2SRUpscaler(LinearNetwork(), tile_size=16)(photo, (80, 80))
        assert len(np.unique(result)) > 150  # 8 bits would leave two or three
        assert np.abs(result[20:60, 20:60, 0] - (np.arange(20, 60) * 1.5 - 0.75 + 1000)).max() < 2

    def test_flat_stays_flat_and_extremes_do_not_wrap(self):
        for dtype in (np.uint8, np.uint16):
            levels = np.iinfo(dtype).max
            for level in (0, 1, levels - 1, levels):
                photo = np.full((9, 14, 3), level, dtype)
                assert (Swin2SRUpscaler(LinearNetwork(), tile_size=5)(photo, (20, 31)) == level).all()
        step = np.zeros((12, 12, 3), np.uint8)
        step[:, 6:] = 255
        result = Swin2SRUpscaler(LinearNetwork())(step, (30, 30))
        assert (result[:, :12] < 64).all() and (result[:, 18:] > 191).all()

    @pytest.mark.parametrize(
        "photo_size, size", [((60, 200), (90, 300)), ((200, 333), (201, 1000)), ((7, 5), (70, 50))]
    )
    def test_the_network_sees_little_at_a_time(self, photo_size, size):
        network = LinearNetwork()
        Swin2SRUpscaler(network, tile_size=20, overlap=8)(noise(*photo_size), size)
        sides = [side for shape in network.shapes for side in shape]
        assert max(sides) <= 20 + 2 * (8 + 8)
        assert all(side % 8 == 0 for side in sides)
        assert len(network.shapes) == np.prod([-(-side // 20) for side in photo_size])

    def test_same_size_needs_no_network(self):
        network = LinearNetwork()
        Swin2SRUpscaler(network)(noise(9, 9), (9, 9))
        assert network.shapes == []

    def test_result_that_is_not_finite(self):
        class Broken(LinearNetwork):
            def forward(self, pixel_values):
                return SimpleNamespace(reconstruction=super().forward(pixel_values).reconstruction / 0)

        with pytest.raises(RuntimeError, match=r"not finite in torch.float32"):
            Swin2SRUpscaler(Broken())(noise(4, 4), (8, 8))

    @pytest.mark.parametrize(
        "config, message",
        [
            ({"upsampler": "pixelshuffle_aux"}, "upsampler` is 'pixelshuffle_aux'; accepted is 'pixelshuffle' or"),
            ({"upsampler": ""}, "upsampler` is ''"),
            ({"num_channels": 1}, "num_channels` is 1; accepted is 3"),
            ({"num_channels_out": 1}, "num_channels_out` is 1"),
            ({"patch_size": 2}, "patch_size` is 2"),
            ({"use_absolute_embeddings": True}, "use_absolute_embeddings` is True"),
        ],
    )
    def test_networks_that_cannot_enlarge(self, config, message):
        with pytest.raises(ValueError, match=message):
            Swin2SRUpscaler(LinearNetwork(**config))

    @pytest.mark.parametrize("options", [{"tile_size": 0}, {"overlap": -1}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match=r"`tile_size` is .* and `overlap` .* at least 1 and 0"):
            Swin2SRUpscaler(LinearNetwork(), **options)


class TestSwin2SR:
    """With the real network."""

    @pytest.mark.parametrize("upsampler, scale", [("pixelshuffle", 2), ("pixelshuffledirect", 3), ("nearest+conv", 4)])
    def test_equals_the_network_itself(self, upsampler, scale):
        transformers = pytest.importorskip("transformers")
        config = transformers.Swin2SRConfig(
            embed_dim=8,
            depths=[2],
            num_heads=[2],
            window_size=4,
            upsampler=upsampler,
            upscale=scale,
            initializer_range=0.3,
        )
        network = transformers.Swin2SRForImageSuperResolution(config).eval()
        photo = noise(12, 20)
        with torch.inference_mode():
            image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
            expected = network(pixel_values=image).reconstruction[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        result = Swin2SRUpscaler(network)(photo, (12 * scale, 20 * scale))
        assert np.abs(result - expected).max() < 0.51

    @pytest.mark.parametrize("size", [(106, 140), (80, 91)])
    def test_tiled_equals_whole(self, network, size):
        photo = noise(53, 70)
        whole = Swin2SRUpscaler(network, tile_size=70)(photo, size)
        tiled = Swin2SRUpscaler(network, tile_size=18, overlap=16)(photo, size)
        assert whole.std() > 20  # the network's result is no flat picture
        assert np.abs(tiled.astype(int) - whole).max() <= 1  # rounding only

    @pytest.mark.parametrize("photo_size", [(1, 1), (5, 3), (4, 9)])
    def test_photo_below_a_window(self, network, photo_size):
        result = Swin2SRUpscaler(network)(noise(*photo_size), (13, 17))
        assert result.shape == (13, 17, 3)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_low_precision(self, network, tmp_path, dtype):
        network.save_pretrained(tmp_path)
        photo = noise(20, 24, np.uint16)
        upscaler = load_upscaler(str(tmp_path), dtype=dtype)
        assert upscaler.model.dtype == dtype
        difference = upscaler(photo, (30, 41)).astype(float) - Swin2SRUpscaler(network)(photo, (30, 41))
        assert np.abs(difference).mean() < 0.02 * 65535
