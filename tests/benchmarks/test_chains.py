import json

import pytest

from benchmarks import chains
from benchmarks.faces import degrade_faces, restore
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr
from tests.conftest import SIZE


def test_a_row_is_the_distance_to_the_fine_chain(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    names = ["DDIMScheduler", "PNDMScheduler", "DDPMScheduler"]
    figures = chains.report(pipe, "name", clean, 3, 2, start=16, schedulers=names, calls=(4, 16))
    assert list(figures.rows) == names and list(figures.rows["PNDMScheduler"]) == [4, 16]
    assert figures.rows["DDIMScheduler"][16] > 100  # it is the fine chain
    assert figures.rows["DDPMScheduler"][16] == pytest.approx(figures.fine_ddpm)
    walks = []
    for name, calls in (("DDIMScheduler", 16), ("PNDMScheduler", 4)):
        pipe.scheduler = chains.plain_scheduler(name, pipe.scheduler.config)
        settings = {"num_inference_steps": calls, "start_timestep": 16, "eta": 0.0, "s_noise": 1.0}
        walks.append(restore(pipe, degrade_faces(clean, 3), 2, **settings)[0])
    assert figures.rows["PNDMScheduler"][4] == pytest.approx(psnr(*walks).mean().item(), abs=1e-3)


def test_markdown_keeps_those_that_draw_noise_apart():
    rows = {"DDIMScheduler": {6: 31.234, 50: 47.0}, "DDPMScheduler": {6: 20.0, 50: 21.06}}
    lines = chains.ChainsReport("m", 7, 128, 0, {}, 400, 21.26, rows).markdown().splitlines()
    assert lines[2:5] == ["| | K = 6 | K = 50 |", "| --- | ---: | ---: |", "| `DDIMScheduler` | 31.2 | 47.0 |"]
    assert "With fresh noise, where DDPM in 400 calls comes to 21.3 dB:" in lines
    assert lines[-3] == "| `DDPMScheduler` | 20.0 | 21.1 |"
    assert lines[-1].endswith("t = 400; 7 faces of 128 x 128 pixels.")


def test_main_writes_both_files(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chains, "SCHEDULERS", {"DDIMScheduler": False, "DDPMScheduler": True})
    monkeypatch.setattr(chains, "CALLS", (2,))
    arguments = ["--model", model, "--data", data, "--output", tmp_path / "out", "--limit", 1, "--start", 6]
    assert chains.main([str(argument) for argument in arguments]) == 0
    figures = json.loads((tmp_path / "out" / "chains.json").read_text())
    assert figures["start"] == 6 and figures["size"] == SIZE and list(figures["rows"]) == list(chains.SCHEDULERS)
    assert (tmp_path / "out" / "chains.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize("start", ["39", "1001"])
def test_a_start_that_cannot_be_is_refused(model, data, tmp_path, start, capsys):
    with pytest.raises(SystemExit):
        chains.main(["--model", str(model), "--data", str(data), "--output", str(tmp_path), "--start", start])
    assert "--start must be within 40 .. 1000" in capsys.readouterr().err
