import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import inpainting
from difface_diffusers import DifFaceInpaintPipeline, LaMaEstimator
from difface_diffusers.degradation.holes import MASKS
from tests.conftest import SIZE, ddim, tiny_unet
from tests.pipelines.test_pipeline_difface_inpaint import RecordedEstimate


FILLS = ["mean", "Telea", "Navier-Stokes", "estimate", "inpainted"]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(inpainting, "COVERAGE_DRAWS", 20)


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), 2, 400, 1.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def masks():
    """One hole of 8 x 4 pixels, and one of 2 x 2."""
    masks = torch.zeros(2, 1, SIZE, SIZE)
    masks[0, :, 8:16, 4:8] = 1
    masks[1, :, 20:22, 20:22] = 1
    return masks


# Masks


def test_a_mask_depends_on_seed_and_index_alone():
    masks = inpainting.draw_masks("irregular", 3, SIZE, seed=5)
    assert masks.shape == (3, 1, SIZE, SIZE) and masks.dtype is torch.float32
    expected = MASKS["irregular"](SIZE, np.random.default_rng([5, 1]))
    np.testing.assert_array_equal(masks[1, 0], expected)
    assert not torch.equal(inpainting.draw_masks("irregular", 3, SIZE, seed=6), masks)


def test_coverage_is_the_share_that_is_missing():
    assert inpainting.measure_coverage("half", 0, draws=3) == {"mean": 0.5, "deviation": 0, "low": 0.5, "high": 0.5}
    shares = [MASKS["box"](256, np.random.default_rng([0, index])).mean() for index in range(20)]
    coverage = inpainting.measure_coverage("box", 0, draws=20)
    assert coverage["mean"] == pytest.approx(np.mean(shares), rel=1e-5)
    assert coverage["deviation"] == pytest.approx(np.std(shares), rel=1e-4)
    assert coverage["low"] < coverage["mean"] < coverage["high"]


# Fills and figures


def test_the_mean_fill_is_the_mean_of_what_is_left(faces, masks):
    filled = inpainting.mean_fill(faces[0] * (1 - masks[0]), masks[0])
    known = masks[0, 0] == 0
    assert torch.equal(filled[:, known], faces[0][:, known])
    expected = faces[0][:, known].mean(dim=1, keepdim=True).expand(3, 32)
    torch.testing.assert_close(filled[:, ~known], expected)


@pytest.mark.parametrize(("name", "method"), [("Telea", cv2.INPAINT_TELEA), ("Navier-Stokes", cv2.INPAINT_NS)])
def test_opencv_fills_the_hole_alone(faces, masks, name, method):
    filled = inpainting.PLAIN_FILLS[name](faces[0], masks[0])
    known = masks[0, 0] == 0
    assert torch.equal(filled[:, known], faces[0][:, known])
    pixels = (faces[0] * 255).round().byte().permute(1, 2, 0).numpy().copy()
    expected = cv2.inpaint(pixels, masks[0, 0].byte().numpy(), 3, method)[~known]
    np.testing.assert_array_equal((filled[:, ~known].T * 255).round().byte(), expected)


def test_psnr_counts_missing_pixels_alone(faces, masks):
    filled = faces.clone()
    filled[0, :, 8:16, 4:8] += 0.1
    filled[1, :, 20:22, 20:22] -= 0.01
    filled[:, :, 0] = 5.0  # known, so that it does not count
    torch.testing.assert_close(
        inpainting.psnr_of_holes(filled, faces, masks), torch.tensor([20.0, 40.0]).double(), rtol=0, atol=1e-3
    )


def test_the_pipeline_s_answers_do_not_depend_on_the_batch_size(pipe, faces, masks):
    together, alone = (inpainting.inpaint(pipe, faces * (1 - masks), masks, size) for size in (2, 1))
    for name in ("estimate", "inpainted"):
        torch.testing.assert_close(together[name], alone[name], rtol=0, atol=1e-5)


def test_report_measures_every_fill_for_every_kind_of_mask(faces):
    perfect = DifFaceInpaintPipeline(tiny_unet(), RecordedEstimate(faces), ddim(), 2, 400, 1.0)
    figures, pictures = inpainting.report(perfect, "name", faces, seed=3, batch_size=2)
    assert list(figures.psnr) == list(figures.identity) == list(figures.coverage) == list(pictures) == list(MASKS)
    for kind, row in figures.psnr.items():
        assert list(row) == FILLS and list(pictures[kind]) == ["input", *FILLS, "clean"]
        assert row["estimate"] > 90 > row["mean"]
        masks = inpainting.draw_masks(kind, 2, SIZE, seed=3)
        assert torch.equal(pictures[kind]["input"], faces * (1 - masks))
        expected = inpainting.psnr_of_holes(pictures[kind]["Telea"], faces, masks).mean().item()
        assert row["Telea"] == pytest.approx(expected)
        assert figures.identity[kind]["estimate"] < 1e-2 < figures.identity[kind]["mean"]
    assert (figures.model, figures.faces, figures.size, figures.seed) == ("name", 2, SIZE, 3)
    assert figures.settings == {
        "default_num_inference_steps": 2,
        "default_start_timestep": 400,
        "default_eta": 1.0,
        "default_s_noise": 1.0,
    }


# The command


def test_main_writes_tables_json_and_sheet(pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "faces").mkdir()
    for index in range(2):
        Image.effect_noise((64, 64), 50 + index).convert("RGB").save(tmp_path / "faces" / f"{index}.png")
    output = tmp_path / "deep" / "out"
    arguments = ["--model", tmp_path / "model", "--data", tmp_path / "faces", "--output", output, "--limit", 1]
    assert inpainting.main([str(argument) for argument in arguments]) == 0
    tables = (output / "inpainting.md").read_text()
    assert tables in capsys.readouterr().out
    figures = json.loads((output / "inpainting.json").read_text())
    assert figures["faces"] == 1 and list(figures["psnr"]["box"]) == FILLS
    assert "| mask | missing | mean | Telea | Navier-Stokes | estimate | inpainted |" in tables
    assert "| half | 0.50 (0.00; 0.50 to 0.50) | " + f"{figures['psnr']['half']['mean']:.2f} |" in tables
    with Image.open(output / "inpainting.png") as picture:
        assert picture.width == 4 + 7 * (SIZE + 4) and picture.height > len(MASKS) * (SIZE + 4)
