"""Trainings that something happens to: nothing that was reached is lost, and a sentence says how to go on."""

import errno
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from difface_diffusers.training import TrainingError, failures
from difface_diffusers.training.loop import TrainingResult, train

from .test_loop import TRAININGS, assert_same_checkpoints, folders, logged, prepare
from .tiny import write_faces


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def happening(task, step, event):
    """Let `event` change the loss of a step, counted from 0."""
    calls, loss = [], task.loss

    def changed(model, batch):
        calls.append(None)
        value = loss(model, batch)
        return event(value) if len(calls) == step + 1 else value

    task.loss = changed
    return task


def tree(output):
    return {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


# Numbers that are not finite


def poisoned(value):
    """A finite loss whose gradients are not: those of the square root at 0."""
    return value + (value * 0).sqrt()


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize(
    ("event", "figures"),
    [
        (lambda loss: loss * float("nan"), "a loss of nan and gradients of norm nan"),
        (lambda loss: loss + float("inf"), "a loss of inf and gradients"),
        (poisoned, r"a loss of [01]\.\d+ and gradients of norm (nan|inf)"),
    ],
)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(folder, tmp_path, training, event, figures):
    settings = {"checkpoint_every": 2, "max_grad_norm": None}
    task, dataset, config = prepare(folder, training, **settings | {"checkpoints_kept": 1})
    weights = []

    def noted(loss):
        weights.append({name: value.clone() for name, value in task.model.named_parameters()})
        return event(loss)

    message = (
        rf"^step 5, at the learning rate 0\.000\d+, has {figures}.*`learning_rate`.*"
        r"`--go-on`; the same command goes on from checkpoint-00000004\.$"
    )
    with pytest.raises(TrainingError, match=message):
        train(happening(task, 4, noted), dataset, config, tmp_path / "run")
    assert all(value.equal(weights[0][name]) for name, value in task.model.named_parameters())
    assert folders(tmp_path / "run") == ["checkpoint-00000004", "config.yaml", "log.jsonl", "run.json"]
    for file in ("model", "ema", "optimizer"):
        tensors = load_file(tmp_path / "run" / "checkpoint-00000004" / f"{file}.safetensors")
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert [entry["step"] for entry in logged(tmp_path / "run")] == [1, 2, 3, 4]
    assert train(*prepare(folder, training, **settings), tmp_path / "run") == TrainingResult(6, True)


def test_clipping_does_not_hide_a_gradient_that_is_not_finite(folder, tmp_path):
    task, dataset, config = prepare(folder, max_grad_norm=0.1)
    with pytest.raises(
        TrainingError, match=r"^step 1, at .*; the same command begins anew, as there is no checkpoint"
    ):
        train(happening(task, 0, poisoned), dataset, config, tmp_path / "run")


def test_one_bad_batch_of_several_stops_the_step(folder, tmp_path):
    task, dataset, config = prepare(folder, gradient_accumulation_steps=3)
    with pytest.raises(TrainingError, match=r"^step 2, at"):
        train(happening(task, 4, lambda loss: loss * float("nan")), dataset, config, tmp_path / "run")


def test_no_checkpoint_has_numbers_that_are_not_finite(folder, tmp_path, monkeypatch):
    """Nor the finished model: finite gradients can make such weights."""
    task, dataset, config = prepare(folder, checkpoint_every=2, checkpoints_kept=1, max_steps=4)
    step = torch.optim.AdamW.step

    def diverge(self, *arguments):
        step(self, *arguments)
        parameter = self.param_groups[0]["params"][0]
        if self.state[parameter]["step"] == 4:
            parameter.data.flatten()[0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", diverge)
    with pytest.raises(TrainingError, match=r"^after step 4, at the learning rate .* is not finite; .*-00000002\.$"):
        train(task, dataset, config, tmp_path / "run")
    assert folders(tmp_path / "run") == ["checkpoint-00000002", "config.yaml", "log.jsonl", "run.json"]


# The disk


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["checkpoint", "log", "sheet", "model"])
def test_a_full_disk_keeps_the_last_checkpoint(folder, tmp_path, monkeypatch, place):
    whole, output = tmp_path / "whole", tmp_path / "run"
    settings = {"checkpoint_every": 2, "sheet_every": 3}
    train(*prepare(folder, **settings), whole)
    train(*prepare(folder, **settings | {"max_steps": 2}), output)
    before = tree(output / "checkpoint-00000002")
    task, dataset, config = prepare(folder, **settings)
    targets = {
        "checkpoint": "difface_diffusers.training.checkpoints.save_file",
        "log": "difface_diffusers.training.tracking.Record.figures",
        "sheet": "difface_diffusers.training.tracking.Record.sheet",
        "model": "difface_diffusers.SRCNNEstimator.save_pretrained",
    }
    message = (
        rf"^{output} cannot be written to \(.*No space left on device\); make room there, if that is it; the same"
    )
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match=message):
        patch.setattr(targets[place], full)
        train(task, dataset, config, output)
    if place != "model":
        assert tree(output / "checkpoint-00000002") == before
    assert not [name for name in folders(output) if name.startswith(".")]
    assert train(*prepare(folder, **settings), output) == TrainingResult(6, True)
    assert_same_checkpoints(whole, output, 6)


def test_a_finished_model_is_replaced_in_one_move(folder, tmp_path, monkeypatch):
    train(*prepare(folder), tmp_path)
    before = tree(tmp_path / "estimator")
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="cannot be written to"):
        patch.setattr("difface_diffusers.SRCNNEstimator.save_pretrained", full)
        train(*prepare(folder, max_steps=7), tmp_path)
    assert tree(tmp_path / "estimator") == before
    assert train(*prepare(folder, max_steps=7), tmp_path) == TrainingResult(7, True)
    assert tree(tmp_path / "estimator") != before


# Faces


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_vanished_face_is_named_and_what_was_reached_is_kept(folder, tmp_path, num_workers):
    settings = {"num_workers": num_workers, "max_steps": 20}
    train(*prepare(folder, **settings), tmp_path / "whole")
    task, dataset, config = prepare(folder, **settings)
    hidden = shutil.move

    def vanish(loss):
        hidden(folder / "c_0.png", tmp_path / "c_0.png")
        return loss

    message = r"^a face can no longer be read: .*c_0\.png.*; the same command goes on from checkpoint-000000\d\d\.$"
    with pytest.raises(TrainingError, match=message) as caught:
        train(happening(task, 4, vanish), dataset, config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    (kept,) = (name for name in folders(tmp_path / "run") if name.startswith("checkpoint"))
    assert 5 <= int(kept[-8:]) < 20
    hidden(tmp_path / "c_0.png", folder / "c_0.png")
    assert train(*prepare(folder, **settings), tmp_path / "run") == TrainingResult(20, True)
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "run", 20)


def test_a_dead_worker_is_told_of(folder, tmp_path):
    task, dataset, config = prepare(folder, num_workers=1, max_steps=20, checkpoint_every=3)

    def kill(loss):
        for child in torch.multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        return loss

    message = (
        r"^a process that loads faces has died \(DataLoader worker.*\).*; the same command goes on from checkpoint-"
    )
    with pytest.raises(TrainingError, match=message):
        train(happening(task, 4, kill), dataset, config, tmp_path / "run")
    assert train(*prepare(folder, max_steps=20), tmp_path / "run") == TrainingResult(20, True)


def test_a_vanished_face_of_the_validation_is_named(folder, tmp_path):
    held_out = write_faces(tmp_path / "held_out", ["v.png"], seed=50)
    task, dataset, config = prepare(folder, monitoring={"validation": str(held_out)}, validate_every=3)
    with pytest.raises(TrainingError, match=r"^a face can no longer be read: .*v\.png.*; the same command"):
        train(
            happening(task, 1, lambda loss: (held_out / "v.png").unlink() or loss), dataset, config, tmp_path / "run"
        )


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match=r"^a mistake$"), failures.told_plainly(tmp_path):
        raise RuntimeError("a mistake")
    with pytest.raises(
        TrainingError, match=r"^the memory does not suffice \(CUDA out of memory\); set `gradient_checkpointing`, or"
    ):
        with failures.told_plainly(tmp_path):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
    with pytest.raises(TrainingError, match=r"^another process of this training has ended, see there; the same"):
        with failures.told_plainly(tmp_path):
            raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1")
