"""Calls of one pipeline, several of which may run at once in different threads."""

import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar


CallT = TypeVar("CallT", bound=Callable[..., Any])

OFFLOADED = threading.RLock()  # networks that move to the device and back serve one call after the other


@dataclass
class Run:
    """One call.

    Attributes:
        running: whether it is under way.
        interrupted: whether it was told to stop.
        num_timesteps: its network calls.
    """

    running: bool = True
    interrupted: bool = False
    num_timesteps: int = 0


class Runs:
    """The running or last call of a pipeline in each thread."""

    def __init__(self) -> None:
        self._by_thread: dict[int, Run] = {}

    @property
    def own(self) -> Run:
        """That of this thread; one that has ended if there was none."""
        return self._by_thread.get(threading.get_ident(), Run(running=False))

    @own.setter
    def own(self, run: Run) -> None:
        self._by_thread[threading.get_ident()] = run

    def interrupt(self, interrupted: bool) -> None:
        """Tell the running call of this thread to stop, or not to; where none is running, those of all threads."""
        for run in [self.own] if self.own.running else list(self._by_thread.values()):
            if run.running:
                run.interrupted = interrupted


def as_run(call: CallT) -> CallT:
    """Let a pipeline's `__call__` have a `Run` of its own in `self._runs`."""

    @functools.wraps(call)
    def run_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = self._runs.own  # of a callback that calls the pipeline again
        run = self._runs.own = Run()
        with OFFLOADED if getattr(self, "_all_hooks", None) else nullcontext():
            try:
                return call(self, *args, **kwargs)
            finally:
                run.running = False
                if outer.running:
                    self._runs.own = outer

    return run_call  # ty: ignore
