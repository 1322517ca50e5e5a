import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import video
from difface_diffusers import DifFacePipeline
from difface_diffusers.demo.restore_tab import EXAMPLES
from difface_diffusers.imaging.files import load_image
from tests.conftest import ddim, tiny_estimator, tiny_unet


@pytest.fixture(scope="module")
def faces():
    face = load_image(EXAMPLES / "scratched.png").convert("RGB").resize((256, 256))
    return [np.asarray(face), np.asarray(face)[:, ::-1].copy()]


@pytest.mark.parametrize("kind", video.KINDS)
def test_clips_move_as_they_say(faces, kind):
    clip = video.make_clip(kind, faces, 8, 0)
    assert len(clip.frames) == len(clip.places) == 8 and clip.frames[0].shape == (video.HEIGHT, video.WIDTH, 3)
    assert all(len(matrices) == 1 + (kind == "crossing") for matrices in clip.places)
    changes = [np.abs(frame.astype(int) - clip.frames[0]).mean() for frame in clip.frames]
    assert (max(changes) == 0) == (kind == "still")
    figures = video.measure(clip, clip.frames, "clean", 1.0)
    assert figures.gradient == pytest.approx(1) and np.isnan(figures.psnr) and figures.seconds == 1 / 8
    assert np.isnan(figures.still) != (kind == "still")


def test_flicker_is_measured(faces):
    clip = video.make_clip("still", faces, 8, 0)
    shaken = [
        np.clip(frame + 10 * (-1.0) ** number, 0, 255).astype(np.uint8) for number, frame in enumerate(clip.frames)
    ]
    figures = video.measure(clip, shaken, "shaken", 1.0)
    assert figures.still == pytest.approx(20, abs=2) and figures.warping == pytest.approx(20, abs=2)
    assert figures.identity > 0 and 26 < figures.psnr < 30


def test_the_report(faces, tmp_path, capsys):
    for number, face in enumerate(faces):
        Image.fromarray(face).save(tmp_path / f"{number}.png")
    pipe = DifFacePipeline(
        tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=2, default_start_timestep=200
    )
    pipe.save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    video.main([*options, "--frames", "6", "--kinds", "still"])
    figures = json.loads((tmp_path / "out" / "video.json").read_text())["figures"]
    assert [row["mode"] for row in figures] == ["clean", "input", "frame by frame", "steady"]
    table = (tmp_path / "out" / "video.md").read_text()
    assert "| still | steady |" in table and "| warping error, levels of 255 |" in table
    clean, damaged, by_frames, steady = figures
    assert clean["warping"] < damaged["warping"] and clean["gradient"] == 1 and np.isnan(clean["psnr"])
    assert np.isnan(damaged["seconds"]) and by_frames["seconds"] > 0 < steady["seconds"]
    psnrs = " | ".join(f"{each['psnr']:.2f}" for each in (by_frames, steady, damaged))
    assert f"| PSNR, dB | {psnrs} |  |" in table
    assert Image.open(tmp_path / "out" / "strips.png").width == 3 * video.CROP


@pytest.mark.parametrize(("option", "value"), [("--frames", "5"), ("--data", "empty")])
def test_bad_options(tmp_path, capsys, option, value):
    (tmp_path / "empty").mkdir()
    options = {"--data": "empty", "--output": "out", option: value}
    options["--data"] = str(tmp_path / options["--data"])
    with pytest.raises(SystemExit):
        video.main([part for pair in options.items() for part in pair])
    assert option in capsys.readouterr().err
