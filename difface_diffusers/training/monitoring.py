"""What a training shows of itself while it runs. None of it changes the weights."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..utils.atomic import replaced_folder
from .checking import CheckedFaces
from .config import LoopConfig
from .data import to_device
from .publishing import Publisher
from .task import Task
from .tracking import VALIDATION, Record
from .validation import HeldOutFaces, validate


SHEET_FACES = 8


class Monitor:
    """Logs the loss, draws sheets, validates and keeps the best weights. All processes call it, the main one writes.

    Args:
        task: what is trained.
        averaged: gives the model its averaged weights for as long as the context lasts.
        faces: those that are trained on, and those to judge by.
        config: settings of the loop.
        accelerator: joins the processes.
        output: receives `log.jsonl`, `sheets/`, and as asked for `best/`, the averaged weights with the lowest validation
            loss so far, `tensorboard/`, and `hub/`, what is uploaded.
        step: where the training goes on.

    Raises:
        ValueError: the Hub refuses the repository.
        ImportError: a package is missing that `monitoring` asks for.
    """

    def __init__(
        self,
        task: Task,
        averaged: Callable[[], AbstractContextManager[None]],
        faces: CheckedFaces,
        config: LoopConfig,
        accelerator: Accelerator,
        output: Path,
        step: int,
    ) -> None:
        monitoring = task.config.monitoring
        self.task = task
        self.averaged = averaged
        self.config = config
        self.output = output
        self.held_out = None if faces.held_out is None else HeldOutFaces(faces.held_out, config, accelerator)
        sheet_faces = torch.utils.data.default_collate([faces.trained[position] for position in range(SHEET_FACES)])
        self.sheet_batch = to_device(sheet_faces, accelerator.device)
        self.record = Record(output, step, monitoring.tensorboard) if accelerator.is_main_process else None
        self.publisher = None
        if self.record is not None and monitoring.push_to_hub is not None:
            self.publisher = Publisher(task, averaged, self.record, monitoring.push_to_hub, monitoring.private)
        self.losses: list[float] = []
        self.log_time = time.monotonic()
        self.validated = step
        self.progress = tqdm(total=config.max_steps, initial=step, disable=self.record is None, mininterval=5)
        if step and config.max_seconds is not None and self.record is not None:
            self.progress.write(f"going on from step {step:,} with {config.max_seconds:g} seconds")

    def close(self) -> None:
        """Close the files and the progress bar."""
        self.progress.close()
        if self.record is not None:
            self.record.close()

    def is_due(self, step: int) -> bool:
        """Whether there is something to show after a step that takes longer than a line of the log."""
        validation = self.held_out is not None and (
            step % self.config.validate_every == 0 or step == self.config.max_steps
        )
        return validation or step % self.config.sheet_every == 0

    def after_step(self, step: int, losses: list[float], learning_rate: float, rehearsal: bool = False) -> None:
        """Do what is due after a step, counted from 1; everything in a rehearsal.

        Args:
            step: that is done.
            losses: that have become known with it, of it and of steps before.
            learning_rate: that it had.
            rehearsal: also show what is not due.
        """
        self.progress.update()
        if self.record is not None:
            self._log(self.record, step, losses, learning_rate)
        if rehearsal or step % self.config.validate_every == 0 or step == self.config.max_steps:
            self.validate(step)
        if self.record is not None and (rehearsal or step % self.config.sheet_every == 0):
            with self.averaged():
                self.record.sheet(step, self.task.sheet(self.task.model, self.sheet_batch))

    def validate(self, step: int) -> None:
        """Judge the averaged weights after a step, if there are faces for it and it has not been done; keep the best."""
        if self.held_out is None or self.validated == step:
            return
        self.validated = step
        with self.averaged():
            figures = validate(self.task, self.held_out)
            if self.record is None:
                return
            figures = {f"{VALIDATION}{name}": round(value, 6) for name, value in figures.items()}
            if figures[f"{VALIDATION}loss"] < self.record.lowest(f"{VALIDATION}loss"):
                self._save_best()
        self.record.figures(step, figures)

    def after_checkpoint(self, step: int) -> None:
        """Publish the averaged weights if asked to."""
        if self.publisher is not None:
            self.publisher.publish(step)

    def finish(self, step: int) -> str | None:
        """Publish the last averaged weights if asked to and wait; return what failed and what is to be done about it."""
        return None if self.publisher is None else self.publisher.finish(step)

    def _log(self, record: Record, step: int, losses: list[float], learning_rate: float) -> None:
        self.losses += losses
        if step % self.config.log_every != 0:
            return
        seconds, self.log_time = time.monotonic() - self.log_time, time.monotonic()
        mean = round(float(np.mean(self.losses)), 6)
        record.figures(step, {"loss": mean, "learning_rate": learning_rate, "seconds": round(seconds, 1)})
        self.progress.set_postfix(loss=f"{mean:.4f}")
        self.losses.clear()

    def _save_best(self) -> None:
        with replaced_folder(self.output / "best") as folder:
            self.task.model.save_pretrained(folder)
