"""The processes of a training: how they are joined, told to stop, and agree."""

import contextlib
import os
import signal
from collections.abc import Generator

import torch
from accelerate import Accelerator, PartialState

from ..acceleration.processor import why_slow
from ..utils.warning import warn_user
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
        warn_user(
            "`accelerate launch` was asked for several processes but started one: on a CPU it starts several only with"
            " `--multi_gpu`, which stands for several processes of any kind."
        )
    on_cpu_in_bf16 = mixed_precision == "bf16" and accelerator.device.type == "cpu"
    if on_cpu_in_bf16 and (reason := why_slow(torch.bfloat16)) is not None:
        warn_user(f'`mixed_precision` is bf16, but {reason}: take "auto".')
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


def summed(values: list[float], accelerator: Accelerator) -> list[float]:
    """Return each value's sum over the processes, the same for all of them."""
    if accelerator.num_processes == 1:
        return values
    return accelerator.reduce(torch.tensor(values, dtype=torch.float32, device=accelerator.device), "sum").tolist()
