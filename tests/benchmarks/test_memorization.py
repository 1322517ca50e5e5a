import json

import pytest
import torch
from PIL import Image

from benchmarks import memorization
from difface_diffusers import DifFacePipeline
from tests.conftest import SIZE


@pytest.fixture
def pipe(model, monkeypatch):
    monkeypatch.setattr(memorization, "SAMPLING_STEPS", 2)
    pipe = DifFacePipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# Neighbors


def test_a_training_face_is_found_mirrored_too(clean):
    training = memorization.TrainingFaces(clean)
    assert torch.equal(training.faces, torch.cat([clean, clean.flip(-1)]))
    identity, pixels, index = training.nearest(torch.stack([clean[2], clean[0].flip(-1)]))
    assert identity.tolist() == pytest.approx([0, 0], abs=1e-6) and pixels.tolist() == pytest.approx([0, 0], abs=1e-3)
    assert index.tolist() == [2, 3]


def test_distances_by_hand(clean):
    """The stand-in's embedding is the mean color in 8 bits."""
    training = memorization.TrainingFaces(torch.full_like(clean[:1], 0.2))
    identity, pixels, _ = training.nearest(torch.full_like(clean[:1], 0.4))
    assert identity.item() == pytest.approx(3**0.5 * 51, rel=1e-3)
    assert pixels.item() == pytest.approx(0.2, rel=1e-4)


# Samples


def test_samples_come_from_pure_noise(pipe):
    samples = memorization.draw_samples(pipe, 3, seed=4, batch_size=2)
    noise = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(6))
    direct = pipe(torch.ones(1, 3, SIZE, SIZE), 2, 1000, eta=0.0, latents=noise, output_type="pt").images
    torch.testing.assert_close(samples[2:], direct, rtol=0, atol=1e-5)
    assert samples.shape == (3, 3, SIZE, SIZE)


# Report


def test_report_measures_clean_restored_and_samples(pipe, clean):
    figures, pictures = memorization.report(pipe, "name", clean, clean[:2], seed=0, batch_size=2)
    assert list(figures.rows) == ["clean", "restored", "samples"]
    assert figures.rows["clean"]["pixels_smallest"] == pytest.approx(0, abs=1e-3)
    assert figures.rows["clean"]["pixels_mean"] > 0.05
    assert figures.rows["samples"]["pixels_smallest"] > 0.05
    assert (figures.faces, figures.training_faces) == (3, 2)
    assert list(pictures) == ["restored", "nearest to restored", "samples", "nearest to samples"]
    training = memorization.TrainingFaces(clean[:2])
    for name in ("restored", "samples"):
        identity, _, index = training.nearest(pictures[name])
        assert identity.tolist() == sorted(identity.tolist())
        assert torch.equal(pictures[f"nearest to {name}"], training.faces[index])


def test_the_nearest_are_shown_beside_their_neighbors(pipe, clean, monkeypatch):
    samples = clean.clone()
    for index, offset in enumerate((0.3, 0.0, 0.1)):
        samples[index, :, 8:-8, 8:-8] *= 1 - offset
    monkeypatch.setattr(memorization, "draw_samples", lambda *_: samples)
    _, pictures = memorization.report(pipe, "name", clean, clean, seed=0, batch_size=2)
    assert torch.equal(pictures["samples"], samples[[1, 2, 0]])
    colors = pictures["nearest to samples"].mean(dim=(2, 3))  # the same for a mirror image
    torch.testing.assert_close(colors[:2], clean[[1, 2]].mean(dim=(2, 3)))


def test_main_writes_table_json_and_sheet(pipe, model, data, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    arguments = ["--model", model, "--data", data, "--training", data, "--output", output, "--limit", 2]
    assert memorization.main([str(argument) for argument in arguments]) == 0
    table = (output / "memorization.md").read_text()
    assert table in capsys.readouterr().out
    figures = json.loads((output / "memorization.json").read_text())
    assert (figures["faces"], figures["training_faces"]) == (2, 3)
    assert f"| samples | {figures['rows']['samples']['identity_mean']:.3f} |" in table
    with Image.open(output / "memorization.png") as picture:
        assert picture.width == 4 + 4 * (SIZE + 4)
