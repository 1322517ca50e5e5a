import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from difface_diffusers.acceleration import processor
from difface_diffusers.acceleration.processor import fastest_dtype
from difface_diffusers.models.rrdbnet import RRDBNet
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.real_esrgan import RealESRGANUpscaler
from difface_diffusers.photos.upscale import load_upscaler
from tests.conftest import warned_at


def compact(scale=2):
    """A network whose receptive field is 5 pixels to each side."""
    torch.manual_seed(0)
    return SRVGGNetCompact(scale, num_channels=8, num_convs=3).eval()


class Exact(RealESRGANUpscaler):
    """In float32 on every machine."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **{"dtype": torch.float32} | options)


def noise(height, width, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, 3)).astype(dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4])
def test_at_its_own_factor_it_is_what_the_network_says(dtype, scale):
    photo, levels = noise(19, 26, dtype), np.iinfo(dtype).max
    enlarged = Exact(compact(scale))(photo, (19 * scale, 26 * scale))
    image = torch.from_numpy(photo.astype(np.float32) / levels).permute(2, 0, 1)[None]
    expected = compact(scale)(image)[0].permute(1, 2, 0).clamp(0, 1).numpy() * levels
    assert enlarged.dtype == dtype
    assert np.abs(enlarged - expected).max() <= 0.51 + 1e-5 * levels


@pytest.mark.parametrize("size", [(106, 140), (80, 91), (53, 70), (190, 251)])
@pytest.mark.parametrize(("tile_size", "overlap"), [(16, 8), (24, 12), (8, 8)])
def test_tiles_equal_the_whole(size, tile_size, overlap):
    photo = noise(53, 70, np.uint16)
    tiled = Exact(compact(), tile_size, overlap)(photo, size)
    whole = Exact(compact(), 70, 0)(photo, size)
    assert np.abs(tiled.astype(int) - whole).max() <= 40  # of 65535; Pillow rounds the corners of a tile


def test_tiles_fade_into_each_other():
    """With a network that paints each tile in a tone of its own there is no hard edge."""

    class Toned(SRVGGNetCompact):
        tones = 0

        def forward(self, image):
            Toned.tones += 1
            return torch.full((1, 3, 2 * image.shape[-2], 2 * image.shape[-1]), (Toned.tones % 2) * 0.8)

    enlarged = Exact(Toned(2, 4, 1), tile_size=32, overlap=32)(noise(32, 64), (64, 128)).astype(int)
    assert enlarged[0, 0, 0] == 204 and enlarged[0, -1, 0] == 0
    assert 5 < np.abs(np.diff(enlarged[..., 0], axis=1)).max() < 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gray_stays_gray(dtype):
    gray = noise(20, 24)[..., :1].repeat(3, -1)
    enlarged = RealESRGANUpscaler(compact(), dtype=dtype)(gray, (40, 48))
    assert not np.ptp(enlarged, axis=-1).any() and enlarged.std() > 10
    gray[3, 4, 0] ^= 1
    assert np.ptp(RealESRGANUpscaler(compact())(gray, (40, 48)), axis=-1).any()


def test_it_is_told_how_far_it_is(capsys):
    told = []
    Exact(compact(), 16, 8)(noise(20, 40), (40, 80), on_tile=lambda *counts: told.append(counts))
    assert told == [(number, 6) for number in range(1, 7)]


def test_what_the_listener_raises_ends_it():
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Exact(compact())(noise(9, 9), (18, 18), on_tile=stop)


def test_it_runs_in_the_precision_that_is_fastest_here(monkeypatch):
    assert fastest_dtype("cuda") == torch.float16
    monkeypatch.setattr(processor, "is_native", lambda dtype: dtype == torch.bfloat16)
    assert RealESRGANUpscaler(compact()).model.dtype == fastest_dtype("cpu") == torch.bfloat16
    monkeypatch.setattr(processor, "is_native", lambda dtype: False)
    assert RealESRGANUpscaler(compact()).model.dtype == fastest_dtype("cpu") == torch.float32


def test_in_half_the_bits_it_is_nearly_the_same():
    photo = noise(30, 40)
    exact = Exact(compact())(photo, (60, 80)).astype(int)
    assert np.abs(RealESRGANUpscaler(compact(), dtype=torch.bfloat16)(photo, (60, 80)) - exact).mean() < 1


@pytest.mark.slow
def test_it_can_be_compiled():
    upscaler, photo = Exact(compact(), 16, 8), noise(40, 37)
    expected = upscaler(photo, (80, 74)).astype(int)
    upscaler.model.compile(dynamic=True)
    assert np.abs(upscaler(photo, (80, 74)) - expected).max() <= 1


def test_the_same_size_is_a_copy():
    photo = noise(9, 7)
    copy = RealESRGANUpscaler(compact())(photo, (9, 7))
    assert not np.shares_memory(copy, photo)
    np.testing.assert_array_equal(copy, photo)


class Hungry(SRVGGNetCompact):
    """Has memory for small pictures only."""

    limit = 100

    def forward(self, image):
        if image.shape[-1] > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(image)


def test_smaller_tiles_are_tried_when_memory_runs_out():
    photo = noise(40, 300)
    upscaler = RealESRGANUpscaler(Hungry(2, 4, 1).eval(), tile_size=256, overlap=8)
    with warned_at(__file__, "no memory for tiles of 256 pixels; trying 128"):
        enlarged = upscaler(photo, (80, 600))
    assert enlarged.shape == (80, 600, 3) and upscaler.tiling.size == 64
    upscaler.model.limit = 10
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="trying 32"):
        upscaler(photo, (80, 600))


def test_a_result_that_is_not_finite():
    model = compact()
    torch.nn.init.constant_(model.body[0].weight, float("nan"))
    with pytest.raises(RuntimeError, match=r"not finite in torch\.float32"):
        Exact(model)(noise(5, 5), (10, 10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile_size": 0}, "`tile_size` is 0"),
        ({"tile_size": 16, "overlap": 17}, "`overlap` is 17"),
        ({"overlap": -1}, "`overlap` is -1"),
        ({"model": torch.nn.Identity()}, "`model` is a Identity"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RealESRGANUpscaler(**({"model": compact()} | arguments))


def test_the_large_network_too():
    torch.manual_seed(0)
    upscaler = RealESRGANUpscaler(RRDBNet(2, 8, 1, 4).eval())
    assert upscaler(noise(7, 9), (15, 21)).shape == (15, 21, 3)


@pytest.mark.parametrize("form", ["pth", "safetensors", "folder"])
def test_loaded_by_name(tmp_path, form):
    model, path = compact(), tmp_path / f"net.{form}"
    if form == "pth":
        torch.save({"params": model.state_dict()}, path)
    elif form == "safetensors":
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    else:
        model.save_pretrained(path)
    upscaler, photo = load_upscaler(str(path), dtype=torch.float32), noise(9, 11)
    assert isinstance(upscaler, RealESRGANUpscaler) and not upscaler.model.training
    np.testing.assert_array_equal(upscaler(photo, (18, 22)), Exact(model)(photo, (18, 22)))
    assert load_upscaler(str(path), dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_what_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "text.pth").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.pth was refused"):
        load_upscaler(str(tmp_path / "text.pth"))
    compact().save_pretrained(tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    (tmp_path / "net" / "config.json").write_text(json.dumps(config | {"num_channels": 9}))
    with pytest.raises(ValueError, match="do not fit its config"):
        load_upscaler(str(tmp_path / "net"))
    with pytest.raises(ValueError, match="is no RRDBNet or SRVGGNetCompact"):
        RealESRGANUpscaler.from_pretrained(tmp_path / "nothing")
