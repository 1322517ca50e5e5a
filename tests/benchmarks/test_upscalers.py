import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import upscalers
from benchmarks.backgrounds import textured_background
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.upscale import upscale_nearest


PHOTO = textured_background(np.random.default_rng(0), 256, 384)
GOOD = upscalers.RECIPES["good"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    for name, side in (("a", 240), ("b", 224)):
        Image.fromarray(PHOTO[:side, : side + 1]).save(tmp_path / "data" / f"{name}.png")
    return tmp_path / "data"


def test_damage_shrinks_and_is_drawn_by_the_generator():
    first, again, other = (
        upscalers.damage_photo(PHOTO, 2, upscalers.RECIPES["poor"], np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (128, 192, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()


def test_hardly_any_damage_is_the_mean_of_each_square():
    small = upscalers.damage_photo(PHOTO, 2, GOOD, np.random.default_rng(0)).astype(float)
    means = PHOTO.reshape(128, 2, 192, 2, 3).mean((1, 3))
    assert np.abs(small - means).mean() < 4


def test_poor_is_worse_than_good():
    errors = [
        np.abs(
            upscale_nearest(upscalers.damage_photo(PHOTO, 2, recipe, np.random.default_rng(0)), (256, 384))
            - PHOTO * 1.0
        )
        for recipe in upscalers.RECIPES.values()
    ]
    means = [error.mean() for error in errors]
    assert means == sorted(means)


def test_gray_photographs_stay_gray():
    gray = np.repeat(PHOTO[..., :1], 3, -1)
    small = upscalers.damage_photo(gray, 2, upscalers.RECIPES["poor"], np.random.default_rng(0))
    assert np.ptp(small, axis=-1).max() == 0


def test_mixing():
    pictures = np.full((2, 2, 3), 250, np.uint8), np.full((2, 2, 3), 10, np.uint8)
    assert [upscalers.mix(*pictures, blend)[0, 0, 0] for blend in (0, 0.25, 1)] == [10, 70, 250]


def test_the_busiest_part():
    photo = np.full((600, 500, 3), 128, np.uint8)
    photo[300:400, 250:350] = PHOTO[:100, :100]
    left, top = upscalers.busiest(photo)
    assert left <= 250 and left + upscalers.VIEW >= 350 and top <= 300 and top + upscalers.VIEW >= 400


def test_a_perfect_background_gets_all_points():
    def cheat(photo, size):
        return PHOTO if size == PHOTO.shape[:2] else upscale_nearest(photo, size)

    backgrounds = [upscalers.Background("cheat", cheat, (0.5, 1.0))]
    (half, whole), columns = upscalers.measure({"a": PHOTO}, backgrounds, "mild", 2, seed=0)
    assert whole.psnr == np.inf and whole.ssim == pytest.approx(1) and 0 < half.psnr < 60
    assert list(columns["a"]) == ["clean", "pixels", "cheat 0.5", "cheat"]
    assert (columns["a"]["cheat"] == PHOTO).all()


def test_command(data, tmp_path, capsys):
    SRVGGNetCompact(scale=2, num_channels=4, num_convs=1).save_pretrained(tmp_path / "net")
    command = ["--data", str(data), "--output", str(tmp_path / "out"), "--recipes", "mild"]
    upscalers.main([*command, "--backgrounds", "lanczos", f"{tmp_path / 'net'}=0.5,1", "--sheet", "b", "a@0,0"])
    report = (tmp_path / "out" / "upscalers.md").read_text()
    assert report == capsys.readouterr().out.rstrip("\n") + "\n"
    figures = json.loads((tmp_path / "out" / "upscalers.json").read_text())
    assert figures["photographs"] == ["a", "b"] and figures["megapixels"] == pytest.approx((240**2 + 224**2) / 4e6)
    rows = [(row["recipe"], row["background"], row["blend"]) for row in figures["rows"]]
    net = str(tmp_path / "net")
    assert rows == [("mild", "lanczos", 1), ("mild", net, 0.5), ("mild", net, 1)]
    assert all(f"| {recipe} | {name} | {blend:g} |" in report for recipe, name, blend in rows)
    sheet = Image.open(tmp_path / "out" / "upscalers_mild.png")
    assert sheet.width > 5 * upscalers.VIEW and sheet.height > 2 * upscalers.VIEW


def test_what_is_not_there(data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, rest, message in (("empty", [], "holds no image"), ("data", ["--sheet", "c"], "--sheet names c")):
        with pytest.raises(SystemExit, match="2"):
            upscalers.main(["--data", str(tmp_path / folder), "--output", str(tmp_path / "out"), *rest])
        assert message in capsys.readouterr().err
