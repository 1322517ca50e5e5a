import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from difface_diffusers import SRCNNEstimator
from difface_diffusers.training.loop import TrainingResult, train

from .test_loop import TRAININGS, assert_same_checkpoints, assert_same_tensors, folders, logged, prepare, signaled
from .tiny import write_faces


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


@pytest.fixture
def held_out(tmp_path):
    return write_faces(tmp_path / "held_out", ["v_0.png", "v_1.png", "v_2.png"], seed=50)


def validated(output):
    return [entry for entry in logged(output) if "validation.loss" in entry]


def watched(folder, held_out, training="srcnn", **loop_settings):
    settings = {"validate_every": 2} | loop_settings
    return prepare(folder, training, monitoring={"validation": str(held_out)}, **settings)


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_validation_does_not_change_the_training(folder, held_out, tmp_path, training, num_workers):
    train(*prepare(folder, training, num_workers=num_workers), tmp_path / "without")
    train(*watched(folder, held_out, training, num_workers=num_workers, validate_every=1), tmp_path / "with")
    assert len(validated(tmp_path / "with")) == 6
    assert_same_checkpoints(tmp_path / "without", tmp_path / "with", 6)


def test_validates_at_its_steps_and_at_the_end(folder, held_out, tmp_path):
    train(*watched(folder, held_out, validate_every=4), tmp_path / "run")
    assert [entry["step"] for entry in validated(tmp_path / "run")] == [4, 6]
    names = ["step", *(f"validation.{name}" for name in ("loss", "psnr", "ssim", "input_psnr", "input_ssim"))]
    assert list(validated(tmp_path / "run")[0]) == names


def test_without_faces_nothing_is_validated(folder, tmp_path):
    train(*prepare(folder, validate_every=1), tmp_path / "run")
    assert not validated(tmp_path / "run")
    assert "best" not in folders(tmp_path / "run")


def test_the_averaged_weights_are_judged(folder, held_out, tmp_path):
    task, dataset, config = watched(folder, held_out, validate_every=6, ema_decay=0.5)
    train(task, dataset, config, tmp_path / "run")
    averaged = SRCNNEstimator.from_pretrained(tmp_path / "run" / "estimator").eval()
    faces = dataset.held_out(held_out)
    with torch.no_grad():
        losses = [
            (averaged(face["degraded"][None]) - face["clean"]).abs().mean() for face in (faces[n] for n in range(3))
        ]
        trained = [
            (task.model.eval()(face["degraded"][None]) - face["clean"]).abs().mean()
            for face in (faces[n] for n in range(3))
        ]
    assert validated(tmp_path / "run")[-1]["validation.loss"] == pytest.approx(sum(losses).item() / 3, abs=1e-6)
    assert sum(losses) != sum(trained)


def test_the_best_weights_are_kept(folder, held_out, tmp_path):
    task, dataset, config = watched(folder, held_out, validate_every=1, batch_size=3)
    losses, weights = iter([0.5, 0.2, 0.4, 0.3, 0.2, float("nan")]), []

    def judge(model, batch, generators):
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"loss": torch.full((len(generators),), next(losses))}

    task.validate = judge
    train(task, dataset, config, tmp_path / "run")
    best = load_file(tmp_path / "run" / "best" / "diffusion_pytorch_model.safetensors")
    assert all(best[name].equal(value) for name, value in weights[1].items())
    assert not all(best[name].equal(value) for name, value in weights[4].items())
    assert SRCNNEstimator.from_pretrained(tmp_path / "run" / "best").config.depth == 2
    assert not [name for name in folders(tmp_path / "run") if name.startswith(".")]


def test_resumed_validations_are_those_of_a_whole_training(folder, held_out, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(*watched(folder, held_out), whole)
    task, dataset, config = watched(folder, held_out)
    assert train(signaled(task, 2), dataset, config, resumed) == TrainingResult(3, False)
    (first,) = validated(resumed)
    with (resumed / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "validation.loss": 0.0}) + "\n")  # of a step that is taken again
    shutil.rmtree(resumed / "best")
    train(*watched(folder, held_out), resumed)
    assert validated(whole) == validated(resumed)
    assert validated(resumed)[0] == first
    lowest = min(entry["validation.loss"] for entry in validated(whole))
    assert lowest == validated(whole)[-1]["validation.loss"]
    weights = "best/diffusion_pytorch_model.safetensors"
    assert_same_tensors(whole / weights, resumed / weights)


def test_an_earlier_best_outlives_the_resumption(folder, held_out, tmp_path):
    best, kept = tmp_path / "run" / "best" / "diffusion_pytorch_model.safetensors", []
    for loss in (0.1, 0.2):
        task, dataset, config = watched(folder, held_out, validate_every=1)
        task.validate = lambda model, batch, generators, loss=loss: {"loss": torch.full((len(generators),), loss)}
        train(signaled(task, 1), dataset, config, tmp_path / "run")
        kept.append(best.read_bytes())
    assert kept[0] == kept[1]
