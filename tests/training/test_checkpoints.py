import os
import shutil

import pytest
import torch
from diffusers.training_utils import EMAModel

from difface_diffusers import SRCNNEstimator
from difface_diffusers.training import checkpoints
from difface_diffusers.training.checkpoints import load_checkpoint, save_checkpoint

from .tiny import SRCNN


@pytest.fixture
def parts():
    """A model, its average and its optimizer after one step."""
    model = SRCNNEstimator(**SRCNN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    ema = EMAModel(model.parameters())
    model(torch.rand(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    ema.step(model.parameters())
    return model, ema, optimizer


def folders(output):
    return sorted(path.name for path in output.iterdir())


def test_a_checkpoint_brings_everything_back(tmp_path, parts):
    model, ema, optimizer = parts
    ema.shadow_params[0] += 1
    save_checkpoint(tmp_path, 7, *parts, kept=1)
    fresh = SRCNNEstimator(**SRCNN)
    fresh_ema, fresh_optimizer = EMAModel(fresh.parameters()), torch.optim.AdamW(fresh.parameters(), lr=0.5)
    assert load_checkpoint(tmp_path, fresh, fresh_ema, fresh_optimizer) == 7
    assert all(map(torch.equal, fresh.parameters(), model.parameters()))
    assert all(map(torch.equal, fresh_ema.shadow_params, ema.shadow_params))
    assert fresh_ema.optimization_step == ema.optimization_step == 1
    states = zip(optimizer.state.values(), fresh_optimizer.state.values(), strict=True)
    assert all(old[name].equal(new[name]) for old, new in states for name in ("step", "exp_avg", "exp_avg_sq"))
    assert fresh_optimizer.param_groups[0]["lr"] == 0.5


def test_a_checkpoint_of_another_layout_is_laid_out_like_the_model(tmp_path):
    def trained(layout):
        torch.manual_seed(0)
        model = SRCNNEstimator(**SRCNN).to(memory_format=layout)
        optimizer, ema = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True), EMAModel(model.parameters())
        return model, ema, optimizer

    def step(model, ema, optimizer):
        optimizer.zero_grad()
        model(torch.ones(1, 3, 16, 16)).square().sum().backward()
        optimizer.step()
        ema.step(model.parameters())

    parts = trained(torch.channels_last)
    step(*parts)
    save_checkpoint(tmp_path, 1, *parts, kept=1)
    step(*parts)
    for layout in (torch.channels_last, torch.contiguous_format):
        other = trained(layout)
        load_checkpoint(tmp_path, *other)
        moments = other[2].state.items()
        assert all(values["exp_avg"].stride() == weight.stride() for weight, values in moments)
        step(*other)
        for weight, expected in zip(other[0].parameters(), parts[0].parameters(), strict=True):
            torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_the_newest_checkpoints_are_kept(tmp_path, parts):
    for step in (2, 9, 10, 100):
        save_checkpoint(tmp_path, step, *parts, kept=2)
    assert folders(tmp_path) == ["checkpoint-00000010", "checkpoint-00000100"]
    assert load_checkpoint(tmp_path, *parts) == 100


def test_without_checkpoint_the_start_is_0(tmp_path, parts):
    assert load_checkpoint(tmp_path / "nowhere", *parts) == 0


def test_a_checkpoint_appears_in_one_move(tmp_path, parts, monkeypatch):
    save_checkpoint(tmp_path, 1, *parts, kept=1)
    moved, move = [], os.replace

    def watched(source, target):
        moved.append(target.name)
        assert folders(tmp_path) == [".checkpoint-00000002", "checkpoint-00000001"]
        assert sorted(path.name for path in source.iterdir()) == sorted(
            ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"]
        )
        move(source, target)
        assert folders(tmp_path) == ["checkpoint-00000001", "checkpoint-00000002"]

    monkeypatch.setattr(checkpoints.os, "replace", watched)
    save_checkpoint(tmp_path, 2, *parts, kept=1)
    assert moved == ["checkpoint-00000002"]
    assert folders(tmp_path) == ["checkpoint-00000002"]


def test_a_checkpoint_that_could_not_be_finished_does_not_count(tmp_path, parts, monkeypatch):
    save_checkpoint(tmp_path, 1, *parts, kept=1)
    write = checkpoints.save_file

    def full_disk(tensors, path):
        if path.name == "optimizer.safetensors":
            raise OSError("No space left on device")
        write(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(checkpoints, "save_file", full_disk)
        save_checkpoint(tmp_path, 2, *parts, kept=1)
    assert folders(tmp_path) == ["checkpoint-00000001"]
    assert load_checkpoint(tmp_path, *parts) == 1
    save_checkpoint(tmp_path, 2, *parts, kept=1)
    assert folders(tmp_path) == ["checkpoint-00000002"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path, parts):
    save_checkpoint(tmp_path, 3, *parts, kept=1)
    other = SRCNNEstimator(**SRCNN | {"num_channels": 12})
    with pytest.raises(ValueError, match=r"`output` is .*, which holds checkpoint-00000003 of another model\.$"):
        load_checkpoint(tmp_path, other, EMAModel(other.parameters()), torch.optim.AdamW(other.parameters(), lr=0.01))


@pytest.mark.parametrize("part", ["model", "ema", "optimizer"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_before_anything_is_deleted(tmp_path, parts, part, number):
    model, ema, optimizer = parts
    save_checkpoint(tmp_path, 1, *parts, kept=1)
    parameter = next(model.parameters())
    tensors = {
        "model": parameter.data,
        "ema": ema.shadow_params[0],
        "optimizer": optimizer.state[parameter]["exp_avg"],
    }
    tensors[part].flatten()[-1] = number
    with pytest.raises(
        FloatingPointError, match=rf"^after step 2, at the learning rate 0\.01, `.*` of {part} is not finite"
    ):
        save_checkpoint(tmp_path, 2, *parts, kept=1)
    assert folders(tmp_path) == ["checkpoint-00000001"]


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_checkpoint_is_named_with_the_one_before(tmp_path, parts, file, missing):
    save_checkpoint(tmp_path, 1, *parts, kept=2)
    save_checkpoint(tmp_path, 2, *parts, kept=2)
    path = tmp_path / "checkpoint-00000002" / file
    path.unlink() if missing else path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(
        ValueError,
        match=r"checkpoint-00000002 cannot be read \(.*\); delete that folder to go on from checkpoint-00000001\.",
    ):
        load_checkpoint(tmp_path, *parts)
    shutil.rmtree(tmp_path / "checkpoint-00000002")
    assert load_checkpoint(tmp_path, *parts) == 1


def test_what_a_killed_training_left_is_cleared_away(tmp_path, parts):
    (tmp_path / ".checkpoint-00000005").mkdir()
    save_checkpoint(tmp_path, 2, *parts, kept=1)
    assert folders(tmp_path) == ["checkpoint-00000002"]
