import json

import pytest
import torch
from PIL import Image

from benchmarks import uncertainty
from benchmarks.faces import degrade_faces, restore
from difface_diffusers import DifFacePipeline
from tests.conftest import SIZE


def test_the_error_is_that_of_a_sample_the_uncertainty_has_not_seen():
    samples, clean = torch.full((2, 4, 3, 8, 8), 0.5), torch.full((2, 3, 8, 8), 0.5)
    samples[0, 0] += 0.1
    samples[1, 1] += 0.3
    spread, error = uncertainty.compare(samples, clean)
    assert spread[0].max() == 0 and error[1].max() == 0
    torch.testing.assert_close(error[0], torch.full((8, 8), 0.1))
    torch.testing.assert_close(spread[1], torch.full((8, 8), 0.3 / 3**0.5))


def test_correlation_is_of_ranks_over_the_pixels_of_a_face():
    ramp = torch.linspace(0, 1, 32).expand(32, 32)
    first, second = uncertainty.correlations(torch.stack([ramp, ramp]), torch.stack([ramp**4, 5 - ramp]))
    assert first == pytest.approx(1) and second == pytest.approx(-1)


def test_edges_are_where_the_brightness_changes():
    """A step of 0.6 in one of three channels: its central difference is 0.3 in the two columns beside it."""
    images = torch.zeros(1, 3, 6, 6)
    images[:, 1, :, 3:] = 0.6
    expected = torch.zeros(1, 6, 6)
    expected[..., 2:4] = 0.3 / 3**0.5
    torch.testing.assert_close(uncertainty.edges(images), expected)


def test_report_has_a_row_for_each_damage(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    figures, pictures = uncertainty.report(pipe, "name", clean, seed=3, batch_size=5, samples=3)
    assert list(figures.rows) == ["slight", "whole range", "heavy"]
    degraded = degrade_faces(clean, 3)
    torch.testing.assert_close(pictures["input"], degraded)
    samples = restore(pipe, degraded.repeat_interleave(3, dim=0), 9)[0].unflatten(0, (3, 3))
    spread, error = uncertainty.compare(samples, clean)
    row = figures.rows["whole range"]
    assert row["uncertainty"] == pytest.approx(spread.mean().item(), rel=1e-4)
    assert row["error"] == pytest.approx(error.mean().item(), rel=1e-4)
    assert row["lowest"] <= row["correlation"] <= 1


def test_main_writes_table_figures_and_sheet(model, data, tmp_path, capsys):
    command = ["--model", model, "--data", data, "--output", tmp_path / "out", "--samples", 3, "--limit", 2]
    assert uncertainty.main([str(argument) for argument in command]) == 0
    figures = json.loads((tmp_path / "out" / "uncertainty.json").read_text())
    assert (figures["faces"], figures["samples"], figures["size"]) == (2, 3, SIZE)
    assert (tmp_path / "out" / "uncertainty.md").read_text() in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "uncertainty.png").width > 4 * SIZE


def test_needs_three_samples(model, data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        uncertainty.main(["--data", str(data), "--output", str(tmp_path), "--samples", "2"])
    assert "--samples must be at least 3, got 2" in capsys.readouterr().err
