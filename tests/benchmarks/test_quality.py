import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image

from benchmarks import quality
from difface_diffusers import DifFacePipeline, SRCNNEstimator
from difface_diffusers.evaluation import face_metrics, gradient_energy_ratio, psnr, ssim
from difface_diffusers.training.degradation import DegradationRanges, degrade


pytest.importorskip("torchmetrics")

SIZE = 32
FACES = 3


class FakeNetwork:
    """The mean colour of a chip as its embedding: no dlib, and distances that can be recomputed."""

    def compute_face_descriptor(self, chips):
        return [chip.reshape(-1, 3).mean(axis=0) for chip in chips]


@pytest.fixture(autouse=True)
def network(monkeypatch):
    network = FakeNetwork()
    monkeypatch.setattr(face_metrics, "load_identity_network", lambda: network)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny pipeline of random weights whose saved defaults are two steps."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIZE,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipe = DifFacePipeline(
        unet=unet,
        estimator=SRCNNEstimator(num_channels=16, depth=2, down_scale_factor=2),
        scheduler=DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
        default_num_inference_steps=2,
        default_start_timestep=400,
        default_eta=0.5,
    )
    folder = tmp_path_factory.mktemp("pipeline")
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """Three pictures of 64 x 64, written in another order than that of their names, and one file that is none."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in (2, 0, 1):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture = np.array(coarse.resize((64, 64), Image.Resampling.BICUBIC))
        picture[:8] = (200, 100, 10 * index)  # a band that names the picture, and its channels
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no face")
    return folder


# Shape and numbers


def test_load_faces_is_sorted_resized_rgb(data):
    faces = quality.load_faces(data, SIZE)
    assert faces.shape == (FACES, 3, SIZE, SIZE) and faces.dtype == torch.float32
    band = (faces[:, :, 1, 5] * 255).round().tolist()
    assert band == [[200, 100, 0], [200, 100, 10], [200, 100, 20]]
    torch.testing.assert_close(quality.load_faces(data, SIZE, limit=2), faces[:2])


def test_degradation_of_a_face_depends_on_seed_and_index_alone(data):
    clean = quality.load_faces(data, SIZE)
    degraded = quality.degrade_faces(clean, seed=5)
    expected = degrade(clean[1].permute(1, 2, 0).numpy(), quality.MIDDLE, np.random.default_rng([5, 1]))
    torch.testing.assert_close(degraded[1].permute(1, 2, 0), torch.from_numpy(expected), rtol=0, atol=0)
    torch.testing.assert_close(quality.degrade_faces(clean[:2], seed=5), degraded[:2], rtol=0, atol=0)
    assert not torch.equal(quality.degrade_faces(clean, seed=6), degraded)


def test_recipe_is_in_the_middle_of_the_training_range():
    training = DegradationRanges()
    for field in fields(training):
        if field.name != "gray_probability":
            low, high = getattr(training, field.name)
            recipe_low, recipe_high = getattr(quality.MIDDLE, field.name)
            assert low < recipe_low < (low + high) / 2 < recipe_high < high, field.name


def test_restorations_do_not_depend_on_the_batch_size(model, data):
    pipe = DifFacePipeline.from_pretrained(model)
    degraded = quality.degrade_faces(quality.load_faces(data, SIZE), seed=0)
    restored, estimates = quality.restore(pipe, degraded, batch_size=2)
    alone, alone_estimates = quality.restore(pipe, degraded, batch_size=1)
    torch.testing.assert_close(restored, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates, alone_estimates, rtol=0, atol=1e-5)
    direct = pipe(degraded[2:], generator=torch.Generator().manual_seed(2), output_type="pt")
    torch.testing.assert_close(restored[2:], direct.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates[2:], direct.estimates, rtol=0, atol=1e-5)


def test_report_measures_each_row_against_the_clean_faces(model, data):
    clean = quality.load_faces(data, SIZE)
    figures, pictures = quality.report(DifFacePipeline.from_pretrained(model), "name", clean, seed=3, batch_size=2)
    assert list(pictures) == ["input", "estimate", "restored", "clean"]
    assert pictures["clean"] is clean
    torch.testing.assert_close(pictures["input"], quality.degrade_faces(clean, seed=3))
    assert list(figures.rows) == ["input", "estimate", "restored"]
    for name, row in figures.rows.items():
        assert row["psnr"] == pytest.approx(psnr(pictures[name], clean).mean().item())
        assert row["ssim"] == pytest.approx(ssim(pictures[name], clean).mean().item())
        assert row["gradient_energy_ratio"] == pytest.approx(
            gradient_energy_ratio(pictures[name], clean).mean().item()
        )
    assert figures.strangers is not None and figures.strangers > 0
    assert (figures.faces, figures.size, figures.seed, figures.model) == (FACES, SIZE, 3, "name")
    assert figures.settings == {
        "default_num_inference_steps": 2,
        "default_start_timestep": 400,
        "default_eta": 0.5,
    }


def test_markdown_has_a_row_for_each_stage():
    row = {"psnr": 21.236, "ssim": 0.51249, "identity_distance": 0.6, "gradient_energy_ratio": 1.0}
    rows = {"input": row | {"psnr": 9.0}, "estimate": row, "restored": row}
    figures = quality.QualityReport("m", 7, 128, 0, {}, {}, rows, strangers=None)
    table, _, note = figures.markdown().partition("\n\n")
    assert table.splitlines() == [
        "|  | PSNR (dB) | SSIM | identity distance | gradient energy |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| input | 9.00 | 0.512 | 0.600 | 1.000 |",
        "| estimate | 21.24 | 0.512 | 0.600 | 1.000 |",
        "| restored | 21.24 | 0.512 | 0.600 | 1.000 |",
    ]
    assert "7 faces of 128 x 128" in note and "two different" not in note
    with_strangers = quality.QualityReport("m", 7, 128, 0, {}, {}, rows, strangers=0.8081)
    assert "two different clean faces are 0.808 apart" in with_strangers.markdown()


def test_main_writes_table_json_and_sheet(model, data, tmp_path, capsys):
    output = tmp_path / "deep" / "report"
    arguments = ["--model", model, "--data", data, "--output", output, "--limit", 2, "--sheet", 16, "--batch-size", 1]
    assert quality.main([str(argument) for argument in arguments]) == 0
    table = (output / "quality.md").read_text()
    assert table in capsys.readouterr().out
    figures = json.loads((output / "quality.json").read_text())
    assert figures["faces"] == 2 and figures["degradation"]["downscale"] == [14, 18]
    assert f"| restored | {figures['rows']['restored']['psnr']:.2f} |" in table
    with Image.open(output / "quality.png") as picture:
        assert picture.width == 4 + 4 * (SIZE + 4) and picture.height > 2 * (SIZE + 4)


def test_one_face_and_no_sheet(model, data, tmp_path):
    arguments = ["--model", model, "--data", data, "--output", tmp_path / "out", "--limit", 1, "--sheet", 0]
    assert quality.main([str(argument) for argument in arguments]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["quality.json", "quality.md"]
    assert json.loads((tmp_path / "out" / "quality.json").read_text())["strangers"] is None


# Errors


def test_refuses_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"`data` must be a folder of images \(.*\), found none in"):
        quality.load_faces(tmp_path, SIZE)


@pytest.mark.parametrize(("option", "value"), [("--limit", 0), ("--sheet", -1), ("--seed", -1), ("--batch-size", 0)])
def test_refuses_impossible_options(capsys, tmp_path, option, value):
    with pytest.raises(SystemExit):
        quality.main(["--data", str(tmp_path), "--output", str(tmp_path), option, str(value)])
    assert f"{option} must be at least {max(value + 1, 0)}, got {value}" in capsys.readouterr().err
