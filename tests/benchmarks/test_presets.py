import json

import pytest
from diffusers import DDIMScheduler

from benchmarks import presets
from benchmarks.faces import degrade_faces, restore
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr
from tests.conftest import SIZE

from .test_quality import ROW


pytest.importorskip("torchmetrics")

FAST = {"fast": {"num_inference_steps": 1}, "slow": {"num_inference_steps": 8, "start_timestep": 200}}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(presets, "BASELINE_SETTINGS", {"num_inference_steps": 6, "eta": 0.0})


def test_rows_are_the_baseline_and_what_each_preset_answers(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    pipe.register_to_config(presets=FAST)
    figures = presets.report(pipe, "name", clean, seed=3, batch_size=2)
    assert list(figures.rows) == ["DDIM, 100 calls", "fast", "slow"]
    assert (figures.faces, figures.size, figures.batch_size) == (3, SIZE, 2)

    degraded = degrade_faces(clean, seed=3)
    slow, _ = restore(pipe, degraded, 3, num_inference_steps=8, start_timestep=200)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    baseline, _ = restore(pipe, degraded, 3, num_inference_steps=6, eta=0.0)
    assert figures.rows["DDIM, 100 calls"]["psnr"] == pytest.approx(psnr(baseline, clean).mean().item(), abs=1e-4)
    assert figures.rows["slow"]["psnr"] == pytest.approx(psnr(slow, clean).mean().item(), abs=1e-4)
    assert figures.rows["slow"]["psnr_to_baseline"] == pytest.approx(psnr(slow, baseline).mean().item(), abs=1e-3)
    seconds = {name: row["seconds"] for name, row in figures.rows.items()}
    assert figures.rows["fast"]["faster"] == pytest.approx(seconds["DDIM, 100 calls"] / seconds["fast"])


def test_markdown():
    extra = {"seconds": 0.5, "faster": 1.0, "psnr_to_baseline": float("inf")}
    rows = {"DDIM, 100 calls": ROW | extra, "fast": ROW | {"seconds": 0.04, "faster": 12.5, "psnr_to_baseline": 44.04}}
    lines = presets.PresetsReport("m", 7, 128, 0, {}, 2, 4, rows).markdown().splitlines()
    assert lines[2].startswith("| DDIM, 100 calls | 0.500 | 1.0x | inf | 21.24 | 0.512 |")
    assert lines[3].startswith("| fast | 0.040 | 12.5x | 44.0 | 21.24 | 0.512 |")
    assert "7 faces of 128 x 128 pixels in batches of 4, 2 threads" in lines[-1]


def test_main_writes_the_report(model, data, tmp_path, capsys):
    arguments = ["--data", str(data), "--output", str(tmp_path / "out"), "--model"]
    with pytest.raises(SystemExit):
        presets.main([*arguments, str(model)])
    assert "has no presets" in capsys.readouterr().err
    pipe = DifFacePipeline.from_pretrained(model)
    DifFacePipeline(**pipe.components, presets=FAST).save_pretrained(tmp_path / "model")
    assert presets.main([*arguments, str(tmp_path / "model")]) == 0
    figures = json.loads((tmp_path / "out" / "presets.json").read_text())
    assert list(figures["rows"]) == ["DDIM, 100 calls", "fast", "slow"]
    assert (tmp_path / "out" / "presets.md").read_text() in capsys.readouterr().out
