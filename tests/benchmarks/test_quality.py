import json

import pytest
import torch
from PIL import Image

from benchmarks import quality
from benchmarks.faces import degrade_faces
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import frechet_distance, landmark_distance, piqe, psnr, spectrum_distance, ssim
from tests.conftest import SIZE


ROW = {
    "psnr": 21.236,
    "ssim": 0.51249,
    "identity_distance": 0.6,
    "landmark_distance": 2.5,
    "piqe": 40.04,
    "gradient_ratio": 1.0,
    "spectrum_distance": 0.333,
    "frechet_distance": 0.1618,
}


# Shape and numbers


def test_report_measures_each_row_against_the_clean_faces(model, clean):
    figures, pictures = quality.report(DifFacePipeline.from_pretrained(model), "name", clean, seed=3, batch_size=2)
    assert list(pictures) == ["input", "estimate", "restored", "clean"]
    assert pictures["clean"] is clean
    torch.testing.assert_close(pictures["input"], degrade_faces(clean, seed=3))
    assert list(figures.rows) == ["input", "estimate", "restored"]
    for name, row in figures.rows.items():
        for metric in (psnr, ssim, landmark_distance, spectrum_distance, frechet_distance):
            assert row[metric.__name__] == pytest.approx(metric(pictures[name], clean).mean().item())
        assert row["piqe"] == pytest.approx(piqe(pictures[name]).mean().item())
    assert figures.clean_piqe == pytest.approx(piqe(clean).mean().item())
    assert figures.strangers > 0
    assert [name for name, row in figures.rows.items() if row.get("seconds", 0) > 0] == ["restored"]
    assert (figures.faces, figures.size, figures.seed, figures.model) == (3, SIZE, 3, "name")
    assert figures.settings == {
        "default_num_inference_steps": 2,
        "default_start_timestep": 400,
        "default_eta": 0.5,
        "default_s_noise": 1.0,
    }


def test_nearer_says_how_much_and_how_often(model, clean, monkeypatch):
    distances = {"input": [0.5, 0.5, 0.5], "estimate": [0.4, 0.6, 0.5], "restored": [0.4, 0.3, 0.5]}
    pipe = DifFacePipeline.from_pretrained(model)
    stages = {name: torch.full_like(clean, level) for level, name in zip((0.1, 0.2, 0.3), distances, strict=True)}
    monkeypatch.setattr(quality, "degrade_faces", lambda clean, seed: stages["input"])
    monkeypatch.setattr(quality, "restore", lambda *_: (stages["restored"], stages["estimate"]))
    monkeypatch.setattr(quality, "measure", lambda images, clean: {})

    def identity_distance(images, clean):
        name = next((name for name, faces in stages.items() if torch.equal(faces, images)), None)
        return torch.tensor(distances[name] if name else [0.8] * 3).double()

    monkeypatch.setattr(quality, "identity_distance", identity_distance)
    figures, _ = quality.report(pipe, "name", clean, seed=0, batch_size=2)
    assert figures.nearer["estimate"] == pytest.approx(
        {"mean": 0, "standard_error": 0.1 / 3**0.5, "share": 1 / 3}, abs=1e-6
    )
    assert figures.nearer["restored"] == pytest.approx(
        {"mean": 0.1, "standard_error": 0.1 / 3**0.5, "share": 2 / 3}, abs=1e-6
    )
    assert figures.strangers == pytest.approx(0.8)


def test_markdown_has_a_row_for_each_stage():
    rows = {"input": ROW | {"psnr": 9.0}, "estimate": ROW, "restored": ROW | {"seconds": 1.234}}
    nearer = {
        "estimate": {"mean": 0.0205, "standard_error": 0.004, "share": 0.6},
        "restored": {"mean": -0.01, "standard_error": 0.002, "share": 0.414},
    }
    figures = quality.QualityReport("m", 7, 128, 0, {}, {}, rows, nearer, clean_piqe=33.33, strangers=0.8081)
    table, _, notes = figures.markdown().partition("\n\n")
    assert table.splitlines() == [
        "|  | PSNR (dB) | SSIM | identity | landmarks (px) | PIQE | gradients | spectrum | Fréchet | seconds a face |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| input | 9.00 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 |  |",
        "| estimate | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 |  |",
        "| restored | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 | 1.23 |",
    ]
    assert "7 faces of 128 x 128" in notes and "PIQE of 33.3" in notes
    assert "the estimate face by 0.021 +- 0.004, in 60% of the cases," in notes
    assert "the restored face by -0.010 +- 0.002, in 41% of the cases," in notes
    assert "two different clean faces are 0.808 apart" in notes


def test_the_sheet_goes_from_the_least_damaged_to_the_most():
    clean = torch.full((5, 3, 8, 8), 0.5)
    offsets = torch.tensor([0.3, 0.1, 0.4, 0.2, 0.0])
    pictures = {"input": clean + offsets.view(-1, 1, 1, 1), "clean": clean}
    picked = quality.spread_by_damage(pictures, 3)
    assert (picked["input"] - picked["clean"]).amax(dim=(1, 2, 3)).tolist() == pytest.approx([0.0, 0.2, 0.4])
    assert len(quality.spread_by_damage(pictures, 24)["input"]) == 5


# The command


def test_main_writes_table_json_and_sheet(model, data, tmp_path, capsys):
    output = tmp_path / "deep" / "report"
    arguments = ["--model", model, "--data", data, "--output", output, "--limit", 2, "--sheet", 16, "--batch-size", 1]
    assert quality.main([str(argument) for argument in arguments]) == 0
    table = (output / "quality.md").read_text()
    assert table in capsys.readouterr().out
    figures = json.loads((output / "quality.json").read_text())
    assert figures["faces"] == 2 and figures["degradation"]["downscale"] == [0.8, 32]
    assert f"| restored | {figures['rows']['restored']['psnr']:.2f} |" in table
    with Image.open(output / "quality.png") as picture:
        assert picture.width > 3 * 4 * (SIZE + 4) and picture.height < 2 * (SIZE + 4)


def test_no_sheet(model, data, tmp_path):
    arguments = ["--model", model, "--data", data, "--output", tmp_path / "out", "--limit", 2, "--sheet", 0]
    assert quality.main([str(argument) for argument in arguments]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["quality.json", "quality.md"]


# Errors


@pytest.mark.parametrize(("option", "value", "lowest"), [("--limit", 1, 2), ("--sheet", -1, 0)])
def test_refuses_impossible_options(capsys, tmp_path, option, value, lowest):
    with pytest.raises(SystemExit):
        quality.main(["--data", str(tmp_path), "--output", str(tmp_path), option, str(value)])
    assert f"{option} must be at least {lowest}, got {value}" in capsys.readouterr().err
