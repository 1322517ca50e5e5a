"""Figures on faces that a training does not see, the same for any number of processes."""

from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from .config import LoopConfig
from .data import FaceDataset, load_batches, to_device
from .task import Task


def validate(task: Task, faces: FaceDataset, config: LoopConfig, accelerator: Accelerator) -> dict[str, float]:
    """Return the means of the task's figures over the first epoch of `faces`; all processes share the work.

    Each face has its own source of noise, seeded by its position, so that the answer depends on the weights alone. Nothing is
    drawn from the global streams that a training step sees, which seeds them itself.
    """
    positions = range(faces.epoch_length)[accelerator.process_index :: accelerator.num_processes]
    batches = [
        list(positions[first : first + config.batch_size]) for first in range(0, len(positions), config.batch_size)
    ]
    rows: list[dict[str, float]] = []
    for batch, items in zip(batches, load_batches(faces, batches, config.num_workers), strict=True):
        generators = [torch.Generator().manual_seed(position) for position in batch]
        figures = task.validate(task.model, to_device(items, accelerator.device), generators)
        rows += [
            dict(zip(figures, values, strict=True))
            for values in zip(*(value.tolist() for value in figures.values()), strict=True)
        ]
    rows = gather_object(rows)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
