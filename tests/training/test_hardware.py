from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from difface_diffusers.acceleration.layouts import ChannelsLastGroupNorm
from difface_diffusers.training import hardware
from difface_diffusers.training.config import LoopConfig
from difface_diffusers.training.hardware import (
    average,
    choose_compiler,
    choose_precision,
    compile_network,
    fast_arithmetic,
    lay_out,
    make_optimizer,
    step_if,
)
from difface_diffusers.training.muon import Muon


CPU, GPU = torch.device("cpu"), torch.device("cuda")


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1))


def with_gradients(model, seed=0, factor=1.0):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = factor * torch.randn(weight.shape, generator=generator)
    return model


# Precision


@pytest.mark.parametrize(
    ("device", "native", "expected"),
    [(CPU, True, "bf16"), (CPU, False, "no"), (GPU, True, "bf16"), (GPU, False, "no")],
)
def test_the_precision_is_what_the_device_has_instructions_for(monkeypatch, device, native, expected):
    supports = native if device == GPU else not native
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: supports and not including_emulation
    )
    monkeypatch.setattr(hardware, "is_native", lambda dtype: native if device == CPU else not native)
    assert choose_precision("auto", device) == expected
    assert [choose_precision(setting, device) for setting in ("no", "bf16")] == ["no", "bf16"]


def test_other_devices_keep_single_precision():
    assert choose_precision("auto", torch.device("mps")) == "no"


# Compiler


@pytest.mark.parametrize(
    ("device", "triton", "programs", "expected"),
    [(CPU, True, {"gcc"}, False), (GPU, True, {"gcc"}, True), (GPU, True, set(), False), (GPU, False, {"cc"}, False)],
)
def test_compiles_unasked_where_there_is_a_gpu_and_all_it_takes(monkeypatch, device, triton, programs, expected):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(hardware, "find_spec", lambda name: name if triton else None)
    monkeypatch.setattr(hardware.shutil, "which", lambda name: name if name in programs else None)
    assert choose_compiler("auto", device) is expected
    assert choose_compiler(True, device) and not choose_compiler(False, device)


@pytest.mark.parametrize(
    ("device", "processes", "accumulation", "mode"),
    [
        (CPU, 1, 1, "default"),
        (GPU, 1, 1, "reduce-overhead"),
        (GPU, 2, 1, "default"),
        (GPU, 1, 2, "default"),
        (GPU, 2, 2, "default"),
    ],
)
def test_steps_are_recorded_where_gradients_are_nobody_elses(monkeypatch, device, processes, accumulation, mode):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, **settings: asked.append(settings) or "compiled")
    accelerator = SimpleNamespace(device=device, num_processes=processes)
    config = LoopConfig(compile=True, gradient_accumulation_steps=accumulation)
    assert compile_network(network(), config, accelerator) == "compiled"
    assert asked == [{"dynamic": False, "mode": mode}]


def test_what_is_not_compiled_is_left_alone():
    model, accelerator = network(), SimpleNamespace(device=CPU, num_processes=1)
    assert compile_network(model, LoopConfig(), accelerator) is model
    lay_out(model, LoopConfig(compile=True, mixed_precision="no"), CPU)
    lay_out(model, LoopConfig(compile=False), GPU)
    assert type(model[1]) is nn.GroupNorm and model[0].weight.is_contiguous()


def test_what_is_in_bfloat16_on_a_cpu_has_its_channels_innermost():
    model = network()
    lay_out(model, LoopConfig(mixed_precision="bf16"), CPU)
    assert type(model[1]) is nn.GroupNorm
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_what_is_compiled_for_a_gpu_has_its_channels_innermost():
    model = network()
    expected = model(torch.ones(1, 3, 5, 5))
    lay_out(model, LoopConfig(compile=True), GPU)
    assert type(model[1]) is ChannelsLastGroupNorm
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(torch.ones(1, 3, 5, 5)), expected)


# Optimizer


def test_the_optimizer_is_a_fused_adamw():
    config = LoopConfig(learning_rate=0.01, weight_decay=0.1)
    fused, expected = network(), network()
    optimizer = make_optimizer(fused, config, CPU)
    plain = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0.1)
    for seed in range(3):
        with_gradients(fused, seed)
        with_gradients(expected, seed)
        optimizer.step()
        plain.step()
    assert optimizer.defaults["fused"] and not make_optimizer(network(), config, torch.device("mps")).defaults["fused"]
    for weight, other in zip(fused.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_muon_multiplies_in_what_the_training_does(precision, expected):
    config = LoopConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.1, mixed_precision=precision)
    optimizer = make_optimizer(network(), config, CPU)
    assert type(optimizer) is Muon and optimizer.precision == expected
    assert optimizer.defaults["lr"] == 0.01 and optimizer.defaults["weight_decay"] == 0.1


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("device", [CPU, torch.device("mps")])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been(device, name):
    answers = []
    for bad_steps in ((), (1, 2)):
        model = network()
        optimizer = make_optimizer(model, LoopConfig(optimizer=name), device)
        for step, seed in enumerate((0, 8, 9, 1) if bad_steps else (0, 1)):
            with_gradients(model, seed, float("nan") if step in bad_steps else 1.0)
            step_if(torch.tensor(step not in bad_steps), optimizer)
        answers.append((list(model.parameters()), optimizer.state_dict()["state"]))
    (weights, state), (expected, expected_state) = answers[1], answers[0]
    assert all(weight.equal(other) for weight, other in zip(weights, expected, strict=True))
    for index, values in state.items():
        assert all(value.equal(expected_state[index][name]) for name, value in values.items())


# Averages


def test_averages_are_those_of_diffusers():
    model, other = network(), network()
    ema, expected = (EMAModel(weights.parameters(), decay=0.9, foreach=True) for weights in (model, other))
    for seed in range(15):
        for weights in (model, other):
            with torch.no_grad():
                for weight in with_gradients(weights, seed).parameters():
                    weight += weight.grad
        average(ema, model)
        expected.step(other.parameters())
        assert ema.optimization_step == expected.optimization_step
        assert ema.cur_decay_value == expected.cur_decay_value
        for value, reference in zip(ema.shadow_params, expected.shadow_params, strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-5, atol=1e-6)


# Arithmetic


@pytest.mark.parametrize(("device", "inside"), [(CPU, ("highest", False)), (GPU, ("high", True))])
def test_a_gpu_is_allowed_faster_products_for_as_long_as_it_takes(device, inside):
    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    before = settings()
    assert before == ("highest", False)
    with pytest.raises(RuntimeError, match="stop"), fast_arithmetic(device):
        assert settings() == inside
        raise RuntimeError("stop")
    assert settings() == before
