import numpy as np
from PIL import Image

from difface_diffusers import DifFacePipeline
from examples import make_wipe
from examples.make_wipe import LINE, STEPS, frames, main
from tests.conftest import ddim, tiny_estimator, tiny_unet


def test_a_line_sweeps_there_and_back():
    before, after = np.zeros((2, 48, 3), np.uint8), np.full((2, 48, 3), 200, np.uint8)
    sweep = [np.asarray(frame) for frame in frames(before, after)]
    assert len(sweep) == 2 * STEPS
    np.testing.assert_array_equal(sweep[0], before)
    np.testing.assert_array_equal(sweep[STEPS], after)
    for step in (1, 7, STEPS - 1):
        row = sweep[step][0, :, 0]
        assert [(row == value).sum() for value in (200, 255)] == [2 * step - 1, LINE]
        np.testing.assert_array_equal(sweep[step], sweep[-step])


def test_the_box_is_in_pixels_of_the_photograph(tmp_path, monkeypatch):
    monkeypatch.setattr(make_wipe, "UPSCALE", 2)
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim()).save_pretrained(tmp_path / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    output = tmp_path / "wipe.gif"
    box = ["--box", "10", "5", "40", "35"]
    assert main([str(tmp_path / "photo.png"), *box, "--output", str(output), "--model", str(tmp_path / "model")]) == 0
    with Image.open(output) as wipe:
        assert wipe.size == (60, 60) and wipe.info["duration"] == make_wipe.REST_TIME
