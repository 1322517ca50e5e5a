import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.photos.swin2sr import Swin2SRUpscaler
from difface_diffusers.photos.upscale import as_upscaler, load_upscaler, upscale_lanczos, upscale_nearest

from .test_swin2sr import LinearNetwork, noise, tiny_swin2sr


NAME = "realesr-general-x4v3"


class TestFilters:
    photo = np.array([[[10, 200, 0], [60, 100, 7]], [[90, 0, 255], [250, 50, 31]]], np.uint8)

    def test_nearest_repeats_pixels(self):
        expected = self.photo[[0, 0, 1, 1, 1]][:, [0, 0, 1, 1]]  # row 2 of 5 has its center where row 1 begins
        np.testing.assert_array_equal(upscale_nearest(self.photo, (5, 4)), expected)

    def test_nearest_takes_the_pixel_below_the_center(self):
        photo = noise(5, 4)  # centers of 7 rows in the photo: .36 1.07 1.79 2.5 3.21 3.93 4.64
        expected = photo[[0, 1, 1, 2, 3, 3, 4]][:, [0, 1, 1, 2, 3, 3]]  # of 6 columns: .33 1 1.67 2.33 3 3.67
        np.testing.assert_array_equal(upscale_nearest(photo, (7, 6)), expected)

    def test_nearest_of_a_very_wide_photo(self):
        photo = noise(2, 40000, np.uint16)
        np.testing.assert_array_equal(upscale_nearest(photo, (4, 80000)), photo.repeat(2, 0).repeat(2, 1))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_lanczos_is_close_to_pillow(self, dtype):
        levels = np.iinfo(dtype).max
        rows, columns = np.mgrid[:15, :20]
        waves = [np.sin(columns / 3), np.cos(rows / 2), np.sin((rows + 2 * columns) / 4)]
        photo = ((np.stack(waves, axis=-1) * 0.4 + 0.5) * levels).astype(dtype)
        result = upscale_lanczos(photo, (33, 47))
        assert result.dtype == dtype and result.shape == (33, 47, 3)
        for channel in range(3):
            plane = Image.fromarray(photo[..., channel].astype(np.float32))
            expected = np.asarray(plane.resize((47, 33), Image.Resampling.LANCZOS))
            assert np.abs(result[..., channel] - expected).max() < 0.02 * levels

    def test_lanczos_clips_what_overshoots(self):
        photo = np.zeros((8, 8, 3), np.uint8)
        photo[:, 4:] = 255
        result = upscale_lanczos(photo, (16, 16))
        assert (result[:, :6] < 64).all() and (result[:, 10:] > 191).all()

    @pytest.mark.parametrize("upscale", [upscale_lanczos, upscale_nearest, Swin2SRUpscaler(LinearNetwork())])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("size", [(1, 1), (5, 3)])
    def test_contract(self, upscale, dtype, size):
        photo = noise(*size, dtype)
        before = photo.copy()
        for result_size in [size, (size[0] * 2, size[1] * 2), (size[0], size[1] + 7), (11, 13)]:
            result = upscale(photo, result_size)
            assert result.dtype == dtype and result.shape == (*result_size, 3)
            assert not np.shares_memory(result, photo)
        np.testing.assert_array_equal(photo, before)
        np.testing.assert_array_equal(upscale(photo, size), photo)

    @pytest.mark.parametrize("upscale", [upscale_lanczos, upscale_nearest, Swin2SRUpscaler(LinearNetwork())])
    @pytest.mark.parametrize(
        "photo, size, message",
        [
            (np.zeros((4, 4, 3), np.float32), (8, 8), "`photo` is float32"),
            (np.zeros((4, 4), np.uint8), (8, 8), r"shape \[4, 4\]"),
            (np.zeros((4, 4, 4), np.uint8), (8, 8), r"shape \[4, 4, 4\]"),
            (np.zeros((0, 4, 3), np.uint8), (8, 8), "not empty"),
            (np.zeros((4, 6, 3), np.uint8), (8, 5), r"`size` is \(8, 5\).* \(4, 6\)"),
            (np.zeros((4, 6, 3), np.uint8), (3, 9), r"`size` is \(3, 9\)"),
        ],
    )
    def test_errors(self, upscale, photo, size, message):
        with pytest.raises(ValueError, match=message):
            upscale(photo, size)


class TestLoading:
    @pytest.fixture
    def network(self):
        return tiny_swin2sr()

    @pytest.fixture
    def folder(self, network, tmp_path):
        network.save_pretrained(tmp_path)
        return tmp_path

    @staticmethod
    def edit_config(folder, **changes):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    def test_names(self):
        assert load_upscaler("lanczos") is upscale_lanczos
        assert load_upscaler("none") is upscale_nearest

    def test_folder(self, network, folder):
        upscaler = load_upscaler(str(folder))
        assert not upscaler.model.training and upscaler.model.dtype == torch.float32
        photo = noise(9, 14)
        np.testing.assert_array_equal(upscaler(photo, (20, 28)), Swin2SRUpscaler(network)(photo, (20, 28)))

    def test_a_network_stays_in_memory(self, folder):
        device = torch.device("cpu")
        first = as_upscaler(str(folder), device)
        assert as_upscaler("lanczos", device) is upscale_lanczos and as_upscaler(first, device) is first
        assert as_upscaler(str(folder), device) is first

    @pytest.mark.parametrize(
        ("name", "strength"), [("lanczos", 0.5), ("realesrgan-x4plus", 0), (NAME, 1.5), (NAME, "a")]
    )
    def test_strength_of_denoising(self, name, strength):
        with pytest.raises(ValueError, match=f"`denoise_strength` is {strength!r}; "):
            load_upscaler(name, denoise_strength=strength)

    def test_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ImportError, match=r'`transformers`.*: pip install "difface-diffusers\[upscale\]"$'):
            load_upscaler("someone/swin2sr")
        assert load_upscaler("lanczos")(noise(2, 2), (4, 4)).shape == (4, 4, 3)

    @pytest.mark.parametrize("name", ["no/such-model", "lanczoz", "/no/such/folder"])
    def test_nothing_there(self, monkeypatch, name):
        pytest.importorskip("transformers")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(
            OSError,
            match=f"(?s)'{name}' cannot be loaded.* Accepted is 'bundled', 'lanczos', 'none', 'realesr-general-x4v3', ",
        ):
            load_upscaler(name)

    def test_folder_without_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(OSError, match=r"cannot be loaded.* no file named model.safetensors"):
            load_upscaler(str(folder))

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"model_type": "bert"}, "model_type 'bert', not 'swin2sr'"),
            ({"depths": [2, 2], "num_heads": [2, 2]}, r"do not fit config.json: 42 differ, such as .*stages\.1"),
            ({"depths": [1]}, r"do not fit .*layers\.1"),
            ({"embed_dim": 16}, "do not fit config.json"),
            ({"upscale": 4}, "do not fit config.json: 2 differ"),
            ({"embed_dim": "wide"}, ""),  # the reason is one of transformers or of torch
            ({"upsampler": ""}, "do not fit config.json"),
        ],
    )
    def test_config_that_does_not_fit(self, folder, changes, message):
        self.edit_config(folder, **changes)
        with pytest.raises(ValueError, match=rf"(?s)'{folder}' cannot be loaded.*{message}"):
            load_upscaler(str(folder))

    def test_network_that_cannot_enlarge_is_named(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        config = transformers.Swin2SRConfig(
            embed_dim=8, depths=[2], num_heads=[2], window_size=4, upscale=4, upsampler="pixelshuffle_aux"
        )
        transformers.Swin2SRForImageSuperResolution(config).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=rf"'{tmp_path}' cannot be loaded.*upsampler` is 'pixelshuffle_aux'"):
            load_upscaler(str(tmp_path))

    def test_damaged_weights(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ValueError, match=rf"'{folder}' cannot be loaded"):
            load_upscaler(str(folder))

    @pytest.mark.parametrize("content", [b"", b"garbage"])
    def test_damaged_pickle(self, folder, content):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged or unsafe pickle"):
            load_upscaler(str(folder))
