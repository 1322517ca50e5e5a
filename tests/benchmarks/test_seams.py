import json

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import seams
from difface_diffusers.faces.alignment import template
from difface_diffusers.imaging.files import load_image
from tests.faces.test_detection import ASTRONAUT


MASK = cv2.GaussianBlur(np.pad(np.ones((60, 60), np.float32), 20), (0, 0), 4)
GRAY = np.full((100, 100, 3), 100, np.uint8)


@pytest.mark.parametrize("contour", [0.05, 0.5])
def test_a_step_at_the_contour_is_measured(contour):
    after = GRAY.copy()
    after[MASK > contour] += 10
    assert seams.step_at(GRAY, after, MASK, contour) == pytest.approx(10, abs=2)
    assert seams.step_at(GRAY, GRAY, MASK, contour) == 0


def test_a_soft_change_has_a_small_step():
    after = np.rint(GRAY + 10 * MASK[..., None]).astype(np.uint8)
    assert seams.step_at(GRAY, after, MASK, 0.05) < 1


def test_without_a_contour_there_is_no_step():
    assert np.isnan(seams.step_at(GRAY, GRAY, np.zeros((100, 100), np.float32), 0.5))


def test_the_ellipse():
    mask = seams.fixed_ellipse(template(64), np.zeros((64, 64, 3), np.float32))
    assert mask[34, 32] == 1 and mask[0].max() == mask[:, 0].max() == 0


@pytest.mark.parametrize(("background", "level"), [("black", 0), ("white", 255), ("gray", 128)])
def test_the_background(background, level):
    face = np.asarray(load_image(ASTRONAUT).convert("RGB"))
    photo = seams.compose_photo(face, background, 0, np.random.default_rng(0))
    assert (photo[:20] == level).all() and (photo[180:220, 180:220] != level).any()
    damaged = seams.compose_photo(face, background, 0.5, np.random.default_rng(0))
    assert damaged.shape == photo.shape and (damaged != photo).any()


def test_command(model, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    load_image(ASTRONAUT).save(tmp_path / "data" / "a.png")
    command = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--model", str(model)]
    seams.main([*command, "--composites", "2"])
    report = (tmp_path / "out" / "seams.md").read_text()
    assert report == capsys.readouterr().out.rstrip("\n") + "\n"
    for mask in ("ellipse", "fitting"):
        assert f"| {mask} | black |" in report and f"| {mask} | all |" in report
    figures = json.loads((tmp_path / "out" / "seams.json").read_text())["seams"]
    assert [figure["background"] for figure in figures] == ["black", "white"]
    assert Image.open(tmp_path / "out" / "seams.png").size == (4 * 2 * seams.VIEW, seams.VIEW)


def test_a_folder_without_images(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        seams.main(["--data", str(tmp_path), "--output", str(tmp_path)])
    assert "holds no image" in capsys.readouterr().err
