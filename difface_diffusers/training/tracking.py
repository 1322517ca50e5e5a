"""The record of a training: `log.jsonl`, sample sheets, and TensorBoard's curves if they are asked for."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..utils.atomic import whole_file
from ..utils.extras import import_extra


VALIDATION = "validation."  # what the names of validation's figures begin with


class Record:
    """Goes on with what an earlier part of the same training has recorded.

    Args:
        output: folder of the training, made if it is missing.
        step: where it goes on; what is recorded of later steps, and a line that was cut short, is dropped.
        tensorboard: write TensorBoard's files to `output/tensorboard` too.

    Raises:
        ImportError: TensorBoard is asked for and missing; the message says how to install it.
    """

    def __init__(self, output: Path, step: int, tensorboard: bool) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.log = output / "log.jsonl"
        self.lines: list[dict[str, float]] = []
        self.writer = _summary_writer(output / "tensorboard", step) if tensorboard else None
        if self.log.is_file():
            whole = [
                line for line in self.log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
            ]
            self.lines = [line for line in map(json.loads, whole) if line["step"] <= step]
            with whole_file(self.log) as file:
                file.write("".join(map(_as_text, self.lines)).encode())

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self.writer is not None:
            self.writer.close()

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Append a line to the log, and a point to each figure's curve; TensorBoard groups by what precedes a dot."""
        line = {"step": step, **figures}
        self.lines.append(line)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(_as_text(line))
        if self.writer is not None:
            for name, value in figures.items():
                self.writer.add_scalar(name.replace(".", "/"), value, step)

    def lowest(self, name: str) -> float:
        """Return the lowest value that a figure has had; infinite when it has had none."""
        return min((line[name] for line in self.lines if name in line), default=math.inf)

    def last(self, prefix: str) -> dict[str, float]:
        """Return the newest figures whose names begin with a prefix; none when there are none."""
        lines = ({name: value for name, value in line.items() if name.startswith(prefix)} for line in self.lines[::-1])
        return next(filter(None, lines), {})

    def sheet(self, step: int, picture: Image.Image) -> None:
        """Save a sample sheet."""
        path = self.output / "sheets" / f"{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
        if self.writer is not None:
            self.writer.add_image("sheet", np.asarray(picture), step, dataformats="HWC")


def _as_text(line: dict[str, float]) -> str:
    return json.dumps(line) + "\n"


def _summary_writer(folder: Path, step: int) -> Any:
    import_extra("tensorboard", "train", "TensorBoard's curves need")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=step + 1)
