import json

import pytest
import torch

from benchmarks import defaults
from benchmarks.faces import degrade_faces, restore, with_parts
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr

from .test_quality import ROW


pytest.importorskip("torchmetrics")

SETTINGS = {"s_noises": [1.0, 1.5], "starts": [100, 700], "noise_margins": [0.5, 4.0]}


def test_each_row_is_restored_with_its_setting(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    figures = defaults.report(pipe, "name", clean, seed=3, batch_size=2, **SETTINGS)
    degraded = degrade_faces(clean, seed=3)
    for rows, name in ((figures.s_noises, "s_noise"), (figures.starts, "start_timestep")):
        for value, row in rows.items():
            restored, _ = restore(pipe, degraded, 3, **{name: value})
            assert row["psnr"] == pytest.approx(psnr(restored, clean).mean().item(), abs=1e-4)
    assert figures.input["psnr"] == pytest.approx(psnr(degraded, clean).mean().item(), abs=1e-4)
    assert list(figures.s_noises) == [1.0, 1.5] and list(figures.starts) == [100, 700]


@torch.no_grad()
def test_margins_choose_the_starts(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    rows = defaults.report(pipe, "name", clean, seed=3, batch_size=2, **SETTINGS).noise_margins
    assert not pipe.can_choose_starts  # what was given is as it was
    degraded = degrade_faces(clean, seed=3)
    for margin, row in rows.items():
        other = with_parts(pipe)
        other.register_to_config(noise_margin=margin)
        _, starts = other.prepare_estimates(degraded, other.with_defaults(start_timestep="auto"))
        assert (row["lowest"], row["highest"], row["mean"]) == (min(starts), max(starts), sum(starts) / 3)
        restored, _ = restore(other, degraded, 3, start_timestep="auto")
        assert row["psnr"] == pytest.approx(psnr(restored, clean).mean().item(), abs=1e-4)
    assert rows[4.0]["lowest"] > rows[0.5]["lowest"]


def test_markdown():
    margins = {18.0: ROW | {"lowest": 58, "highest": 224, "mean": 140.4}}
    lines = defaults.DefaultsReport("m", 7, 128, 0, {}, ROW, {1.03: ROW}, {150: ROW}, margins).markdown().splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines if " | 21.24 | " in line]
    assert names == ["input", "`s_noise` 1.03", "t = 150", "`noise_margin` 18: t = 58 to 224, mean 140"]
    assert "7 faces of 128 x 128 pixels" in lines[-1]


def test_main_writes_the_report(model, data, tmp_path, capsys):
    arguments = ["--model", str(model), "--data", str(data), "--output", str(tmp_path)]
    assert defaults.main([*arguments, "--s-noises", "1.5", "--starts", "--noise-margins", "1"]) == 0
    figures = json.loads((tmp_path / "defaults.json").read_text())
    assert list(figures["s_noises"]) == ["1.5"] and list(figures["noise_margins"]) == ["1.0"] and not figures["starts"]
    assert (tmp_path / "defaults.md").read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--s-noises", "3", "`s_noise` is 3.0; it must be"),
        ("--starts", "5000", "`start_timestep` is 5000"),
        ("--noise-margins", "0", "--noise-margins must be above 0, got 0.0"),
    ],
)
def test_impossible_settings_are_refused_before_the_work(model, tmp_path, capsys, option, value, complaint):
    with pytest.raises(SystemExit):
        defaults.main(["--model", str(model), "--data", str(tmp_path), "--output", str(tmp_path), option, value])
    assert complaint in capsys.readouterr().err
