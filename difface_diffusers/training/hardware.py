"""What a training does differently from device to device, so that each is used as it can be."""

import contextlib
import os
import shutil
from collections.abc import Generator
from importlib.util import find_spec
from typing import cast

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..acceleration.layouts import to_channels_last
from ..acceleration.processor import is_native
from .config import LoopConfig
from .muon import Muon


FUSED = ("cpu", "cuda")  # devices with an AdamW that touches every weight once
COMPILERS = ("cc", "gcc", "clang")  # Triton builds what starts its kernels with one of them


def choose_precision(setting: str, device: torch.device) -> str:
    """Return "bf16" or "no" for a `mixed_precision`: for "auto", the one that the device is faster with.

    Without instructions for it, a processor may take 60 times as long for a convolution in bfloat16.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and is_native(torch.bfloat16) else "no"


def choose_compiler(setting: str | bool, device: torch.device) -> bool:
    """Return whether the network is compiled: for "auto", on a GPU that has all that it takes."""
    if isinstance(setting, bool):
        return setting
    compiler = "CC" in os.environ or any(map(shutil.which, COMPILERS))
    return device.type == "cuda" and find_spec("triton") is not None and compiler


def lay_out(model: torch.nn.Module, config: LoopConfig, device: torch.device) -> None:
    """Lay out a model as its device wants it; the others stay as they are.

    One that is going to be compiled for a GPU, see `to_channels_last`; and one in bfloat16 on a CPU, whose convolutions would
    turn their maps that way and back again.
    """
    if device.type == "cuda" and choose_compiler(config.compile, device):
        to_channels_last(model)
    elif device.type == "cpu" and choose_precision(config.mixed_precision, device) == "bf16":
        model.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]  not in torch's stubs


def compile_network(network: torch.nn.Module, config: LoopConfig, accelerator: Accelerator) -> torch.nn.Module:
    """Return a network compiled for one size of batch, if it is to be, or itself.

    Its weights are the same ones; it stays as it is itself, for what is rarely asked of it. On a GPU its kernels are recorded
    and replayed, unless gradients outlive a forward pass, or other processes take them as they come.
    """
    device = accelerator.device
    if not choose_compiler(config.compile, device):
        return network
    alone = accelerator.num_processes == config.gradient_accumulation_steps == 1
    mode = "reduce-overhead" if device.type == "cuda" and alone else "default"
    return cast(torch.nn.Module, torch.compile(network, dynamic=False, mode=mode))


def make_optimizer(model: torch.nn.Module, config: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer for a model that will be on a device: AdamW in one kernel where there is one, or Muon."""
    weights, rate, decay = model.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "muon":
        fast = choose_precision(config.mixed_precision, device) == "bf16"
        return Muon(weights, rate, decay, precision=torch.bfloat16 if fast else torch.float32)
    return torch.optim.AdamW(weights, rate, weight_decay=decay, fused=device.type in FUSED)


def step_if(finite: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer of `make_optimizer` step if a condition on its device holds, which a fused one finds out there.

    Args:
        finite: scalar, bool.
        optimizer: leaves weights and moments as they are if it does not hold.
    """
    if optimizer.defaults["fused"]:
        optimizer.found_inf = 1.0 - finite.float()  # what a `GradScaler` would set: 1 to stay
        optimizer.step()
    elif finite:
        optimizer.step()


def average(ema: EMAModel, model: torch.nn.Module) -> None:
    """Let averaged weights follow a model's by a step, as `EMAModel.step` does in three times as many passes."""
    ema.optimization_step += 1
    ema.cur_decay_value = ema.get_decay(ema.optimization_step)
    torch._foreach_lerp_(
        ema.shadow_params, [weight.detach() for weight in model.parameters()], 1 - ema.cur_decay_value
    )


@contextlib.contextmanager
def fast_arithmetic(device: torch.device) -> Generator[None]:
    """Let a GPU take float32 for what its matrix units make of it, and try which of its convolutions is fastest."""
    if device.type != "cuda":
        yield
        return
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark
