import json
import sys

import pytest
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from benchmarks import steps
from benchmarks.faces import degrade_faces, restore
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import identity_distance, psnr
from tests.conftest import SIZE

from .test_quality import ROW


EXTRA = {"psnr_to_reference": 30.125, "identity_to_reference": 0.25}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(steps, "CALLS", (1, 4))
    monkeypatch.setattr(steps, "REFERENCE_CALLS", 8)


# Rows


def test_the_note_says_where_the_chains_start():
    settings = {"default_start_timestep": 200}
    assert "network calls from t = 200." in steps.StepsReport("m", 7, 128, 0, settings, ROW, {}).markdown()
    settings = {"default_start_timestep": "auto"}
    note = steps.StepsReport("m", 7, 128, 0, settings, ROW, {}).markdown()
    assert "network calls from a timestep of each face's own." in note


@pytest.mark.parametrize("name", steps.SAMPLERS)
def test_every_sampler_walks_from_the_saved_start(model, clean, name):
    pipe = DifFacePipeline.from_pretrained(model)
    figures = steps.report(pipe, "name", [name], clean, seed=3, batch_size=2)
    assert list(figures.rows) == [name] and list(figures.rows[name]) == [1, 4]
    degraded = degrade_faces(clean, seed=3)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    reference, _ = restore(pipe, degraded, 3, num_inference_steps=8)
    scheduler_class, eta = steps.SAMPLERS[name]
    pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config)
    images, _ = restore(pipe, degraded, 3, num_inference_steps=4, eta=eta)
    row = figures.rows[name][4]
    assert row["psnr"] == pytest.approx(psnr(images, clean).mean().item(), abs=1e-4)
    assert row["psnr_to_reference"] == pytest.approx(psnr(images, reference).mean().item(), abs=1e-3)
    assert row["identity_to_reference"] == pytest.approx(identity_distance(images, reference).mean().item(), abs=1e-3)
    assert figures.reference["psnr"] == pytest.approx(psnr(reference, clean).mean().item(), abs=1e-4)
    assert (figures.model, figures.faces, figures.size, figures.seed) == ("name", 3, SIZE, 3)


# Report


@pytest.fixture
def figures():
    rows = {name: {1: ROW | EXTRA, 4: ROW | EXTRA | {"psnr": 22.0}} for name in ("DDPM", "UniPC")}
    return steps.StepsReport("m", 7, 128, 0, {"default_start_timestep": 200}, ROW, rows)


def test_markdown_has_a_table_for_each_sampler(figures):
    lines = figures.markdown().splitlines()
    assert "| 8 calls | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 |" in lines
    for name in ("DDPM", "UniPC"):
        rows = lines[lines.index(f"{name}:") + 4 :]
        assert rows[0] == "| K = 1 | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 | 30.12 | 0.250 |"
        assert rows[1].startswith("| K = 4 | 22.00 |")
    assert "7 faces of 128 x 128 pixels, K network calls from t = 200" in lines[-1]


def test_curves_are_drawn_for_each_sampler(figures, tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, dpi: drawn.append(self))
    steps.draw_curves(figures, tmp_path / "steps.png")
    (picture,) = drawn
    assert [axis.get_title() for axis in picture.axes] == list(steps.CURVES)
    identity, last = picture.axes[0], picture.axes[-1]
    assert [line.get_label() for line in identity.lines] == ["DDPM", "UniPC", "reference"]
    assert identity.lines[0].get_xydata().tolist() == [[1, 0.6], [4, 0.6]]
    assert last.lines[1].get_ydata().tolist() == [30.125, 30.125]
    assert len(last.lines) == 2  # the reference has no distance to itself


# The command


def test_main_writes_tables_json_and_curves(model, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    output = tmp_path / "deep" / "out"
    arguments = ["--model", model, "--data", data, "--output", output, "--limit", 2, "--samplers", "DDPM", "UniPC"]
    assert steps.main([str(argument) for argument in arguments]) == 0
    tables = (output / "steps.md").read_text()
    assert tables in capsys.readouterr().out
    figures = json.loads((output / "steps.json").read_text())
    assert figures["faces"] == 2 and list(figures["rows"]) == ["DDPM", "UniPC"]
    assert f"| K = 4 | {figures['rows']['UniPC']['4']['psnr']:.2f} |" in tables
    with Image.open(output / "steps.png") as picture:
        assert picture.size == (1300, 800)


def test_missing_matplotlib_is_told_first(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'Drawing curves needs `matplotlib.figure`.*"difface-diffusers\[dev\]"'):
        steps.main(["--data", str(tmp_path), "--output", str(tmp_path)])


def test_refuses_an_unknown_sampler(capsys, tmp_path):
    with pytest.raises(SystemExit):
        steps.main(["--data", str(tmp_path), "--output", str(tmp_path), "--samplers", "Karras"])
    assert "invalid choice: 'Karras'" in capsys.readouterr().err
