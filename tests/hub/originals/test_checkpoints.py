from collections import OrderedDict

import pytest
import torch

from difface_diffusers import SRCNNEstimator
from difface_diffusers.hub.originals.checkpoints import (
    Entry,
    load_checkpoint,
    load_strictly,
    read_config,
    read_state_dict,
    renamed,
)


PLAIN = {"head.weight": torch.ones(2, 3), "tail.bias": torch.zeros(2)}


def tiny():
    with torch.device("meta"):
        return SRCNNEstimator(num_channels=2, depth=1, sf=1)  # a head and a tail


def original():
    generator = torch.Generator().manual_seed(0)
    shapes = {"first.weight": (2, 3, 5, 5), "first.bias": (2,), "last.weight": (3, 2, 5, 5), "last.bias": (3,)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def entries(model):
    return renamed(model, lambda key: key.replace("head", "first").replace("tail.0", "last"))


# Reading


@pytest.mark.parametrize(
    "checkpoint",
    [
        PLAIN,
        OrderedDict(PLAIN),
        {"state_dict": PLAIN, "iters_start": 1000, "log_step": {"train": 3}},
        {f"module.{key}": value for key, value in PLAIN.items()},
        {"state_dict": {f"module.{key}": value for key, value in PLAIN.items()}},
        PLAIN | {"attn.relative_position_index": torch.zeros(4, 4, dtype=torch.int64), "attn_mask": torch.zeros(1)},
    ],
)
def test_takes_off_wrappers_prefix_and_index_buffers(checkpoint):
    assert read_state_dict(checkpoint) == PLAIN


def test_keeps_a_prefix_that_not_all_keys_share():
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert read_state_dict(mixed) == mixed


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ([torch.zeros(1)], r"`original_state_dict` is a list; it must be a dictionary of tensors"),
        (None, r"`original_state_dict` is a NoneType"),
        ({"state_dict": 3}, r"`original_state_dict` holds a int as `state_dict`"),
        ({"head.weight": [1.0]}, r"`original_state_dict` holds a list under 'head.weight'; it must hold tensors"),
        ({3: torch.zeros(1)}, r"`original_state_dict` holds a Tensor under 3; it must hold tensors by name"),
    ],
)
def test_refuses_what_is_no_checkpoint(checkpoint, message):
    with pytest.raises(ValueError, match=message):
        read_state_dict(checkpoint)


# Configurations


def test_completes_a_configuration():
    config = read_config({"width": 3, "rate": 0.5}, ("width",), {"rate": 0.0, "depth": 2}, {"dims": 2})
    assert config == {"width": 3, "rate": 0.5, "depth": 2, "dims": 2}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, r"`original_config` is a int; it must be a dictionary"),
        (
            {"width": 3, "wdith": 4},
            r"unknown arguments \['wdith'\] and misses \[\]; accepted are \['depth', 'dims', 'w",
        ),
        ({}, r"unknown arguments \[\] and misses \['width'\]"),
        ({"width": 3, "dims": 3}, r"`dims` is 3; only 2 can be converted"),
    ],
)
def test_refuses_a_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        read_config(config, ("width",), {"depth": 2}, {"dims": 2})


# Loading


def test_loads_every_tensor_in_eval_mode():
    model, weights = tiny(), original()
    loaded = load_strictly(model, weights, entries(model))
    assert loaded is model
    assert not model.training
    assert torch.equal(model.head.weight, weights["first.weight"])
    assert torch.equal(model.tail[0].bias, weights["last.bias"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_makes_float32_copies():
    model, weights = tiny(), {key: value.half() for key, value in original().items()}
    load_strictly(model, weights, entries(model))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    model, weights = tiny(), original()
    load_strictly(model, weights, entries(model))
    with torch.no_grad():
        model.head.bias.zero_()
    assert torch.equal(weights["first.bias"], original()["first.bias"])


def test_splits_a_tensor_over_its_targets():
    model, weights = tiny(), original()
    weights["biases"] = torch.cat([weights.pop("first.bias"), weights.pop("last.bias")])
    plan = entries(model)
    del plan["first.bias"], plan["last.bias"]
    plan["biases"] = Entry((5,), ("head.bias", "tail.0.bias"), lambda both: both.split([2, 3]))
    load_strictly(model, weights, plan)
    assert torch.equal(torch.cat([model.head.bias, model.tail[0].bias]), weights["biases"])


def test_reports_all_faults_at_once_by_original_key():
    model, weights = tiny(), original()
    del weights["first.bias"]
    weights["extra.weight"] = torch.zeros(1)
    weights["last.weight"] = weights["last.weight"].transpose(0, 1)
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_strictly(model, weights, entries(model))
    assert str(caught.value).splitlines()[1:] == [
        "missing: first.bias",
        "unexpected: extra.weight",
        "mis-shaped: last.weight [2, 3, 5, 5], expected [3, 2, 5, 5]",
    ]


# Files


@pytest.mark.parametrize("zipped", [True, False])
def test_loads_both_formats_of_torch(tmp_path, zipped):
    torch.save(
        {"state_dict": {"a": torch.arange(3)}, "step": 7}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    checkpoint = load_checkpoint(tmp_path / "a.pth")
    assert checkpoint["state_dict"]["a"].tolist() == [0, 1, 2] and checkpoint["step"] == 7


@pytest.mark.parametrize("zipped", [True, False])
def test_refuses_a_cut_file_wherever_it_was_cut(tmp_path, zipped):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"a": torch.arange(3000)}, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for length in (0, 1, 3, 10, 100, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.pth was refused: it must be a file of `torch.save`"):
            load_checkpoint(cut)


def test_refuses_objects_that_are_no_tensors(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"module\.pth was refused: .* holds other objects"):
        load_checkpoint(tmp_path / "module.pth")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        load_checkpoint(tmp_path / "none.pth")
