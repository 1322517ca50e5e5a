"""Figures on faces that a training does not see, the same for any number of processes."""

from collections.abc import Iterator
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from .config import LoopConfig
from .data import FaceDataset, load_batches, to_device
from .task import Task


MEMORY_SHARE = 1 / 16  # of a GPU's memory that the faces may take


class HeldOutFaces:
    """The faces that one process judges by, batch by batch.

    They are the same ones every time, so that they stay on a GPU once they have been read and degraded, if they fit.

    Args:
        faces: of which all processes share the first epoch.
        config: size of the batches, and processes that load them.
        accelerator: joins the processes.
    """

    def __init__(self, faces: FaceDataset, config: LoopConfig, accelerator: Accelerator) -> None:
        self.faces = faces
        self.config = config
        self.accelerator = accelerator
        self.positions = range(faces.epoch_length)[accelerator.process_index :: accelerator.num_processes]
        self.kept: list[dict[str, torch.Tensor]] = []

    def batches(self) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Yield the positions of the faces of each batch, and what there is at them, on the device."""
        size = self.config.batch_size
        numbers = [list(self.positions[first : first + size]) for first in range(0, len(self.positions), size)]
        if self.kept:
            yield from zip(numbers, self.kept, strict=True)
            return
        kept, fits = [], True
        for batch, items in zip(numbers, load_batches(self.faces, numbers, self.config.num_workers), strict=True):
            items = to_device(items, self.accelerator.device)
            fits = fits and self._fit(items, len(numbers))
            if fits:
                kept.append(items)
            yield batch, items
        self.kept = kept if fits else []

    def _fit(self, batch: dict[str, torch.Tensor], count: int) -> bool:
        """Return whether so many batches fit on the device, if that is a GPU."""
        device = torch.device(self.accelerator.device)
        if device.type != "cuda":
            return False
        needed = count * sum(images.nbytes for images in batch.values())
        return needed <= MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory


def validate(task: Task, faces: HeldOutFaces) -> dict[str, float]:
    """Return the means of the task's figures over the faces; all processes share the work.

    Each face has its own source of noise, seeded by its position, so that the answer depends on the weights alone. Nothing is
    drawn from the global streams that a training step sees, which seeds them itself.
    """
    rows: list[dict[str, float]] = []
    for positions, items in faces.batches():
        generators = [torch.Generator().manual_seed(position) for position in positions]
        figures = task.validate(task.model, items, generators)
        rows += [
            dict(zip(figures, values, strict=True))
            for values in zip(*(value.tolist() for value in figures.values()), strict=True)
        ]
    rows = gather_object(rows)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
