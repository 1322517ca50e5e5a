import json

import pytest
import torch

from benchmarks import ablations
from benchmarks.faces import degrade_faces, restore, with_parts
from benchmarks.quality import COLUMNS
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr
from tests.conftest import SIZE, tiny_estimator

from .test_quality import ROW


METRICS = {metric for metric, _ in COLUMNS.values()}


@pytest.fixture
def pipe(model):
    pipe = DifFacePipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(ablations, "START_CALLS", 4)
    monkeypatch.setattr(ablations, "CALLS", 4)


@pytest.fixture
def chain(pipe):
    return with_parts(pipe, estimator=ablations.GivenEstimate())


# Parts


def test_the_chain_alone_starts_from_the_faces_it_is_given(pipe, chain, clean):
    degraded = degrade_faces(clean, seed=0)
    through_all, estimates = restore(pipe, degraded, 3)
    torch.testing.assert_close(restore(chain, estimates, 3)[0], through_all, rtol=0, atol=1e-6)
    torch.testing.assert_close(restore(chain, clean, 3)[1], clean)
    assert chain.config.default_num_inference_steps == 2 and chain.config.default_start_timestep == 400


def test_film_grain_is_gray_and_strongest_in_middle_tones():
    tones = torch.tensor([0.5, 0.9, 0.0]).view(3, 1, 1, 1).expand(3, 3, 64, 64)
    grain = ablations.add_film_grain(tones, seed=1) - tones
    assert torch.allclose(grain[:, 0], grain[:, 1], atol=1e-6) and torch.allclose(grain[:, 0], grain[:, 2], atol=1e-6)
    deviation = grain[:, 0].std(dim=(1, 2))
    assert deviation[0].item() == pytest.approx(0.12, rel=0.02)
    assert 0.02 < deviation[1] < 0.06 and deviation[2] == 0
    along = (grain[0, 0, :, 1:] * grain[0, 0, :, :-1]).mean() / grain[0, 0].var()
    assert along > 0.3  # neighbors are alike: no white noise
    torch.testing.assert_close(ablations.add_film_grain(tones[:1], seed=1), ablations.add_film_grain(tones, 1)[:1])
    assert not torch.equal(ablations.add_film_grain(tones, seed=2), ablations.add_film_grain(tones, seed=1))


def test_degradations_beyond_the_range_are_worse(clean):
    smooth = torch.nn.functional.avg_pool2d(clean, 9, stride=1, padding=4)
    errors = {
        name: psnr(degradation(smooth, 0), smooth).mean().item()
        for name, degradation in ablations.DEGRADATIONS.items()
    }
    inside = errors.pop("training range")
    assert max(errors.values()) < inside


# Rows


def test_kept_error_is_1_where_the_chain_does_nothing_and_0_where_it_forgets(chain, clean, monkeypatch):
    estimates = degrade_faces(clean, seed=0)
    monkeypatch.setattr(ablations, "measure_each", lambda faces, clean: {})
    monkeypatch.setattr(ablations, "restore", lambda chain, faces, *_, **settings: (faces, faces))
    rows = ablations.measure_starts(chain, estimates, clean, batch_size=3)
    assert list(rows) == [f"N = {start}" for start in ablations.STARTS]
    assert all(row["kept_error"] == pytest.approx(1) for row in rows.values())
    monkeypatch.setattr(ablations, "restore", lambda chain, faces, *_, **settings: (torch.zeros_like(faces), faces))
    assert all(row["kept_error"] == 0 for row in ablations.measure_starts(chain, estimates, clean, 3).values())


def test_the_change_is_that_of_the_faces_against_the_input_of_their_damage():
    rows = {
        "a: input": {"identity_distance": torch.tensor([0.5, 0.6, 0.7, 0.8])},  # two faces, twice
        "a: restored": {"identity_distance": torch.tensor([0.4, 0.6, 0.7, 0.5])},
        "b: input": {"identity_distance": torch.tensor([0.1, 0.1, 0.1, 0.1])},
        "b: restored": {"identity_distance": torch.tensor([0.2, 0.2, 0.2, 0.2])},
    }
    condensed = ablations.condense(rows, seeds=2)
    assert condensed["a: input"] == {"identity_distance": pytest.approx(0.65)}
    assert condensed["a: restored"]["change"] == pytest.approx(-0.1)  # the faces' means are -0.05 and -0.15
    assert condensed["a: restored"]["interval"] == pytest.approx(1.96 * 0.05, abs=1e-6)
    assert condensed["b: restored"]["change"] == pytest.approx(0.1) and condensed["b: restored"]["interval"] < 1e-6
    first = ablations.condense({"N = 1": rows["a: input"], "N = 2": rows["a: restored"]}, seeds=1)
    assert first["N = 2"]["change"] == pytest.approx(-0.1) and "change" not in first["N = 1"]


def test_each_seed_is_another_damage(pipe, clean, monkeypatch):
    monkeypatch.setattr(ablations, "STARTS", (100,))
    once, thrice = (ablations.report(pipe, "name", None, clean, 3, seeds, 3) for seeds in (1, 3))
    assert thrice.faces == once.faces == 3 and thrice.seeds == 3
    degraded = degrade_faces(clean.repeat(3, 1, 1, 1), 3)
    expected = psnr(degraded, clean.repeat(3, 1, 1, 1)).mean().item()
    assert thrice.estimators["none"]["psnr"] == pytest.approx(expected) != once.estimators["none"]["psnr"]


def test_the_mean_with_the_mirror_image_is_an_estimator_of_its_own(pipe, clean):
    pipe.register_to_config(noise_margin=1.0)
    figures = ablations.report(pipe, "name", None, clean, seed=3, seeds=1, batch_size=2)
    degraded = degrade_faces(clean, seed=3)
    twice = (pipe.estimate(degraded) + pipe.estimate(degraded.flip(-1)).flip(-1)) / 2
    expected = psnr(twice, clean).mean().item()
    assert figures.estimators["the pipeline's, twice"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert figures.estimators["the pipeline's"]["psnr"] != pytest.approx(expected, abs=1e-4)


def test_a_later_start_keeps_less_of_the_error(chain, clean):
    rows = ablations.measure_starts(chain, degrade_faces(clean, seed=0), clean, batch_size=3)
    kept = [row["kept_error"].item() for row in rows.values()]
    assert kept[0] > kept[3] > kept[-1]
    assert set(rows["N = 100"]) == {*METRICS, "kept_error"}


def test_report_has_every_row(pipe, clean, monkeypatch):
    monkeypatch.setattr(ablations, "STARTS", (100, 500))
    srcnn = tiny_estimator()
    figures = ablations.report(pipe, "name", srcnn, clean, seed=3, seeds=1, batch_size=2)
    assert figures.etas["eta 0"] != figures.etas["eta 0.5"] != figures.etas["eta 1"]
    assert list(figures.starts) == ["N = 100", "N = 500"]
    assert list(figures.etas) == ["eta 0", "eta 0.5", "eta 1"]
    assert list(figures.schedulers) == [scheduler.__name__ for scheduler in ablations.SCHEDULERS]
    ddim, chain = (figures.schedulers["DDIMScheduler"], figures.estimators["the pipeline's, chain"])
    assert all(ddim[metric] == pytest.approx(chain[metric], abs=1e-4) for metric in METRICS)
    assert figures.schedulers["UniPCMultistepScheduler"] != figures.schedulers["EulerDiscreteScheduler"]
    assert list(figures.estimators) == [
        *("none", "none, chain", "the pipeline's", "the pipeline's, chain", "SRCNN", "SRCNN, chain")
    ]
    degraded = degrade_faces(clean, seed=3)
    restored, estimates = restore(pipe, degraded, 2)
    psnrs = {name: row["psnr"] for name, row in (figures.estimators | figures.degradations).items()}
    assert psnrs["none"] == pytest.approx(psnr(degraded, clean).mean().item())
    assert psnrs["the pipeline's"] == pytest.approx(psnr(estimates, clean).mean().item(), abs=1e-4)
    longer, _ = restore(pipe, degraded, 2, num_inference_steps=ablations.CALLS, start_timestep=ablations.START)
    assert psnrs["the pipeline's, chain"] == pytest.approx(psnr(longer, clean).mean().item(), abs=1e-4)
    assert psnrs["training range: restored"] == pytest.approx(psnr(restored, clean).mean().item(), abs=1e-4)
    assert psnrs["training range: input"] == psnrs["none"]
    assert list(figures.severities)[:3] == ["slight: input", "slight: 150", "whole range: input"]
    assert len(figures.degradations) == 3 * len(ablations.DEGRADATIONS)
    assert (figures.model, figures.faces, figures.size, figures.seed) == ("name", 3, SIZE, 3)


def test_faces_start_where_they_choose_if_the_pipeline_can_tell(pipe, clean):
    pipe.register_to_config(noise_margin=100.0)
    rows = ablations.measure_severities(pipe, clean, seed=3, batch_size=2)
    assert len(rows) == 9
    degraded = degrade_faces(clean, 3)
    for start in (150, "auto"):
        restored, _ = restore(pipe, degraded, 2, start_timestep=start)
        assert rows[f"whole range: {start}"]["psnr"].mean().item() == pytest.approx(
            psnr(restored, clean).mean().item(), abs=1e-4
        )
    assert not torch.equal(rows["whole range: auto"]["psnr"], rows["whole range: 150"]["psnr"])


# The command


def test_markdown_has_a_table_for_each_question():
    starts = {"N = 100": ROW | {"kept_error": 0.456, "change": -0.0321, "interval": 0.012}}
    figures = ablations.AblationReport(
        "m",
        7,
        128,
        0,
        {},
        2,
        starts,
        {"eta 1": ROW},
        {"DDPM": ROW},
        {"none": ROW},
        {"heavy: auto": ROW},
        {"grain": ROW},
    )
    lines = figures.markdown().splitlines()
    assert "| N = 100 | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 | -0.032 | 0.012 | 0.46 |" in lines
    for name in ("eta 1", "DDPM", "none", "heavy: auto", "grain"):
        assert f"| {name} | 21.24 | 0.512 | 0.600 | 2.50 | 40.0 | 1.000 | 0.33 | 0.162 |  |  |" in lines
    assert "7 faces of 128 x 128" in lines[-1]


def test_main_writes_tables_and_json(model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablations, "STARTS", (100,))
    tiny_estimator().save_pretrained(tmp_path / "srcnn")
    output = tmp_path / "deep" / "out"
    arguments = ["--model", model, "--data", data, "--output", output, "--limit", 2, "--srcnn", tmp_path / "srcnn"]
    assert ablations.main([str(argument) for argument in arguments]) == 0
    tables = (output / "ablations.md").read_text()
    assert tables in capsys.readouterr().out
    figures = json.loads((output / "ablations.json").read_text())
    assert figures["faces"] == 2 and list(figures["starts"]) == ["N = 100"] and "SRCNN" in figures["estimators"]
    assert f"| SRCNN | {figures['estimators']['SRCNN']['psnr']:.2f} |" in tables


def test_refuses_a_single_face(capsys, tmp_path):
    with pytest.raises(SystemExit):
        ablations.main(["--data", str(tmp_path), "--output", str(tmp_path), "--limit", "1"])
    assert "--limit must be at least 2, got 1" in capsys.readouterr().err
