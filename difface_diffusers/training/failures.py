"""What can end a training that has begun, told in a sentence: what happened, and how to go on."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import torch
from safetensors import SafetensorError

from .checkpoints import how_to_go_on


WORKER, PEER = "DataLoader worker", "Connection closed by peer"  # in torch's own messages


class TrainingError(RuntimeError):
    """A training that had begun has ended; the last checkpoint is whole. The message says why, and how to go on."""


class LostFaces(TrainingError):
    """The next faces could not be read; nothing else is wrong with the training. How to go on is not said yet."""


@contextlib.contextmanager
def told_plainly(output: Path) -> Generator[None]:
    """Turn what may happen to a training from outside into a `TrainingError`; other errors are left as they are."""
    try:
        yield
    except (OSError, SafetensorError, ArithmeticError, MemoryError, RuntimeError) as error:
        reason = _reason(error, output)
        if reason is None:
            raise
        raise TrainingError(f"{reason}; {how_to_go_on(output)}.") from error


@contextlib.contextmanager
def worker_watched() -> Generator[None]:
    """Turn the death of a process that loads faces into a `LostFaces`."""
    try:
        yield
    except RuntimeError as error:
        if WORKER in str(error):
            raise LostFaces(_dead_worker(error)) from error
        raise


def _reason(error: Exception, output: Path) -> str | None:
    """Return what happened and what helps, or `None` for an error that nobody expects."""
    if isinstance(error, LostFaces):
        return str(error)
    if isinstance(error, FloatingPointError):
        return f"{error}; nothing was overwritten: take a lower `learning_rate` or another precision, and `--go-on`"
    if isinstance(error, OSError | SafetensorError):
        return f"{output} cannot be written to ({_first_line(error)}); make room there, if that is it"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"the memory does not suffice ({_first_line(error)}); set `gradient_checkpointing`, or a smaller batch"
    if WORKER in str(error):  # torch tells of it in the middle of anything
        return _dead_worker(error)
    if PEER in str(error):
        return "another process of this training has ended, see there"
    return None


def _dead_worker(error: Exception) -> str:
    return f"a process that loads faces has died ({_first_line(error)}), often for want of memory"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
