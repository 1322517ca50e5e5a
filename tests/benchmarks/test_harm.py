import json

import numpy as np
import pytest

from benchmarks import harm
from difface_diffusers import DifFacePipeline
from difface_diffusers.imaging.files import load_image
from tests.faces.test_detection import ASTRONAUT


@pytest.fixture
def face():
    return np.asarray(load_image(ASTRONAUT).convert("RGB"))


@pytest.fixture
def pipe(model):
    pipe = DifFacePipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(harm, "SIDE", 300)
    monkeypatch.setattr(harm, "SIZES", (120, 240))
    monkeypatch.setattr(harm, "SHARES", (0, 0.5))


def test_the_face_lies_in_the_middle(face):
    photo = harm.plant(face, 150, np.random.default_rng(0))
    assert photo.shape == (300, 300, 3) and photo.dtype == np.uint8
    middle = photo[120:180, 120:180].astype(int)
    shrunk = np.asarray(load_image(ASTRONAUT).convert("RGB").resize((150, 150)))[45:105, 45:105]
    assert np.abs(middle - shrunk).mean() < 3


def test_a_spared_face_is_not_moved_and_a_restored_one_is(pipe, face):
    pipe.register_to_config(clean_damage=1e6)
    planted = harm.restore_planted(pipe, face, 200, seed=0)
    assert planted.size == 200 and planted.damage > 0
    assert (planted.identity, planted.psnr) == (0, 99)
    assert planted.whole_identity > 0 and planted.whole_psnr < 40


def test_a_face_that_is_not_found_has_no_figures(pipe):
    assert harm.restore_planted(pipe, np.full((64, 64, 3), 128, np.uint8), 100, seed=0).damage is None


def test_damaged_faces_are_compared_with_the_clean_ones(pipe, face):
    side = pipe.model_size[0]
    clean = [np.asarray(load_image(ASTRONAUT).convert("RGB").resize((side, side)), np.float32) / 255]
    untouched = harm.restore_damaged(pipe, clean, 0, seed=0)
    assert untouched.identity[0] == 0 and untouched.psnr[0] == 99
    damaged = harm.restore_damaged(pipe, clean, 0.5, seed=0)
    assert damaged.psnr[0] < 50 and damaged.damage[0] == damaged.damage[2] > 0
    assert damaged.psnr[1] == pytest.approx(damaged.psnr[3])  # without `clean_damage` the default is the whole


def test_command(face, model, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    load_image(ASTRONAUT).save(tmp_path / "data" / "a.png")
    command = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--model", str(model)]
    harm.main([*command, "--planted", "2", "--damaged", "1"])
    report = (tmp_path / "out" / "harm.md").read_text()
    assert report == capsys.readouterr().out.rstrip("\n") + "\n"
    assert "2 clean faces planted at 120 to 240 pixels" in report and "| all | 2 |" in report and "| 0.5 |" in report
    assert len(json.loads((tmp_path / "out" / "harm.json").read_text())["damaged"]) == 2


def test_a_folder_without_images(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        harm.main(["--data", str(tmp_path), "--output", str(tmp_path)])
    assert "holds no image" in capsys.readouterr().err
