"""The processes of a training: how they are joined, told to stop, and agree."""

import contextlib
import os
import signal
import warnings
from collections.abc import Generator

import torch
from accelerate import Accelerator, PartialState

from ..processor import is_native, processor_name
from .hardware import choose_precision


def join_processes(mixed_precision: str) -> Accelerator:
    """Join the processes of a launcher, those on a CPU too, which accelerate leaves apart unless it is told.

    Args:
        mixed_precision: of `LoopConfig`.
    """
    several_on_cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    device = torch.device(PartialState(cpu=several_on_cpu).device or "cpu")
    accelerator = Accelerator(cpu=several_on_cpu, mixed_precision=choose_precision(mixed_precision, device))
    if accelerator.num_processes == 1 and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys():
        warnings.warn(
            "`accelerate launch` was asked for several processes but started one: on a CPU it starts several only with"
            " `--multi_gpu`, which stands for several processes of any kind.",
            stacklevel=3,
        )
    if mixed_precision == "bf16" and accelerator.device.type == "cpu" and not is_native(torch.bfloat16):
        warnings.warn(
            f"`mixed_precision` is bf16, but this processor ({processor_name()}) has no instructions for it; float32 is faster"
            ' there, often many times: take "auto".',
            stacklevel=3,
        )
    return accelerator


@contextlib.contextmanager
def stop_on_signal() -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM instead of being ended by them."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def any_of(flags: list[bool], accelerator: Accelerator) -> list[bool]:
    """Return for each flag whether any process has raised it: all must leave the loop in the same step."""
    if accelerator.num_processes == 1:
        return flags
    counts = accelerator.reduce(torch.tensor(flags, dtype=torch.float32, device=accelerator.device), "sum")
    return [count > 0 for count in counts.tolist()]
