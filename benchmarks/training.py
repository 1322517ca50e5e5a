"""How fast a training is: images a second, and what share of a step its parts have.

    python -m benchmarks.training --output FOLDER [--config NAME] [--data FOLDER] [--device cuda] [--precision bf16] \
        [--batch-size 128] [--variants NAME ...]

Every variant trains the config's network anew for some steps in this process, without checkpoints, sheets and validation:
first as the training's loop does it, where nobody waits for the device, then waiting after every part of a step. Written to
OUTPUT: `training.md`, `training.json`.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from diffusers.training_utils import EMAModel
from PIL import Image

from difface_diffusers.acceleration.allocation import keep_freed_memory
from difface_diffusers.acceleration.processor import processor_name
from difface_diffusers.training import EstimatorConfig, PriorConfig, StudentConfig, load_config, shipped_config
from difface_diffusers.training.config import TrainingConfig
from difface_diffusers.training.data import FaceDataset, PositionSampler, to_device
from difface_diffusers.training.device_faces import open_batches
from difface_diffusers.training.estimator import INPAINTS, EstimatorTask, InpaintingTask
from difface_diffusers.training.hardware import average, compile_network, fast_arithmetic, lay_out, make_optimizer
from difface_diffusers.training.loop import take_step, update_weights
from difface_diffusers.training.prior import PriorTask
from difface_diffusers.training.processes import join_processes
from difface_diffusers.training.schedule import learning_rate
from difface_diffusers.training.student import StudentTask
from difface_diffusers.training.task import Task

from .reports import Report


CONFIGS = {"prior": PriorConfig, "estimator": EstimatorConfig, "student": StudentConfig}
WARM_UPS = 3  # steps after the first, which may compile
ENDLESS = 10**9  # steps
FACES = 64  # that are made up
PARTS = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        on_device: Whether the faces are kept on the device, and changed and degraded there in batches.
        compiled: Whether the network is.
    """

    on_device: bool
    compiled: bool


BASELINE = "one by one"
VARIANTS = {
    BASELINE: Variant(on_device=False, compiled=False),
    "on the device": Variant(on_device=True, compiled=False),
    "one by one, compiled": Variant(on_device=False, compiled=True),
    "on the device, compiled": Variant(on_device=True, compiled=True),
}


@dataclass(frozen=True)
class TrainingRow:
    """One variant.

    Attributes:
        images_per_second: Of the steps that nobody waits in.
        first_step: Seconds, of which a compiler takes most.
        parts: Median seconds of data, forward pass, backward pass, and optimizer with clipping and averaging.
        memory: Most that the device's tensors took, bytes; `None` where it is not known.
    """

    images_per_second: float
    first_step: float
    parts: dict[str, float]
    memory: int | None


@dataclass(frozen=True)
class TrainingReport(Report):
    """Figures of one run, as they are written to `training.json`.

    Attributes:
        config: Name or path.
        data: Folder of the faces; `None` if they were made up.
        device: Its name.
        precision: "no" or "bf16".
        batch_size: Images a step.
        size: Their side, pixels.
        parameters: Of the network.
        workers: Processes that read faces one by one; 0 reads in the training's own.
        cores: That there are for them.
        steps: That were measured, of each kind.
        rows: By variant.
    """

    config: str
    data: str | None
    device: str
    precision: str
    batch_size: int
    size: int
    parameters: int
    workers: int
    cores: int
    steps: int
    rows: dict[str, TrainingRow]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        lines = [
            "| variant | images a second | of the first | data | forward | backward | optimizer | first step (s) |"
            " memory (GB) |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        first = next(iter(self.rows.values()))
        for name, row in self.rows.items():
            ratio, whole = row.images_per_second / first.images_per_second, sum(row.parts.values())
            shares = " | ".join(f"{row.parts[part] / whole:.0%}" for part in PARTS)
            memory = "" if row.memory is None else f"{row.memory / 1e9:.1f}"
            lines.append(
                f"| {name} | {row.images_per_second:.1f} | {ratio:.2f} | {shares} | {row.first_step:.1f} | {memory} |"
            )
        faces = "faces that were made up" if self.data is None else f"faces of {self.data}"
        note = (
            f"{self.config}, {self.parameters / 1e6:.1f} M parameters, {self.batch_size} {faces} a step, {self.size} x "
            f"{self.size} pixels, precision {self.precision}; {self.device}, {self.cores} cores, {self.workers} processes that "
            f"read faces one by one. Images a second: {self.steps} steps without waiting for the device. Shares: medians of "
            f"{self.steps} steps that wait after each part."
        )
        return "\n".join([*lines, "", note, ""])


def make_task(config: TrainingConfig) -> Task:
    """Return the task of a config, with random weights."""
    torch.manual_seed(0)
    if isinstance(config, PriorConfig):
        return PriorTask(config)
    if isinstance(config, StudentConfig):
        return StudentTask(config)
    return (InpaintingTask if config.architecture == INPAINTS else EstimatorTask)(config)


def adapt(config: TrainingConfig, variant: Variant, precision: str, batch_size: int, workers: int) -> TrainingConfig:
    """Return a config that trains in a variant's way, one batch a step, from random weights."""
    loop = dataclasses.replace(
        config.loop,
        batch_size=batch_size,
        compile=variant.compiled,
        mixed_precision=precision,
        gradient_accumulation_steps=1,
        num_workers=workers,
    )
    data = dataclasses.replace(config.data, on_device=variant.on_device)
    return dataclasses.replace(config, loop=loop, data=data, initial_weights=None)


def make_faces(folder: Path, size: int) -> None:
    """Write smooth pictures of twice a size, as JPEGs."""
    rng = np.random.default_rng(0)
    for number in range(FACES):
        colors = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        colors.resize((2 * size, 2 * size), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=95)


class Trainer:
    """A training that is taken step by step.

    Args:
        config: of `adapt`.
        data: its faces.
        accelerator: knows the device.
    """

    def __init__(self, config: TrainingConfig, data: Path, accelerator: Accelerator) -> None:
        device, degradation = accelerator.device, getattr(config, "degradation", None)
        self.accelerator = accelerator
        self.task = make_task(config)
        self.loop = config.loop
        holes = isinstance(self.task, InpaintingTask)
        scratches = getattr(config, "scratch_probability", 0.0)
        dataset = FaceDataset(data, config.data, config.loop.seed, None if holes else degradation, holes, scratches)
        sampler = PositionSampler(0, ENDLESS, config.loop.batch_size)
        self.batches = open_batches(dataset, sampler, config.loop.num_workers, device)
        lay_out(self.task.model, self.loop, device)
        optimizer = make_optimizer(self.task.model, self.loop, device)
        self.ema = EMAModel(self.task.model.parameters(), decay=self.loop.ema_decay, foreach=True)
        model, self.optimizer = accelerator.prepare(self.task.model, optimizer)
        self.network = compile_network(model, self.loop, accelerator)
        self.ema.to(device)
        model.train()

    def step(self, number: int) -> None:
        """Take a step as the loop does."""
        batch = next(self.batches)
        rate = learning_rate(number, self.loop)
        take_step(self.task, self.network, [batch], self.optimizer, self.accelerator, self.loop, number, rate)
        average(self.ema, self.task.model)

    def parts(self) -> list[float]:
        """Take a step, waiting for the device after each of the `PARTS`, and return the seconds that they took."""
        self.wait()
        times = [time.perf_counter()]
        batch = to_device(next(self.batches), self.accelerator.device)
        self._note(times)
        loss = self.task.loss(self.network, batch)
        self._note(times)
        self.accelerator.backward(loss)
        self._note(times)
        parameters = self.network.parameters()
        update_weights(loss.detach(), parameters, self.optimizer, self.accelerator, self.loop.max_grad_norm)
        average(self.ema, self.task.model)
        self._note(times)
        return [after - before for before, after in itertools.pairwise(times)]

    def wait(self) -> None:
        """Wait for the device."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize(self.accelerator.device)

    def _note(self, times: list[float]) -> None:
        self.wait()
        times.append(time.perf_counter())


def measure(trainer: Trainer, steps: int) -> TrainingRow:
    """Measure a training over twice so many steps, after its first ones."""
    device = trainer.accelerator.device
    with fast_arithmetic(device):
        began = time.perf_counter()
        trainer.step(0)
        trainer.wait()
        first_step = time.perf_counter() - began
        for number in range(WARM_UPS):
            trainer.step(number)
        trainer.wait()
        began = time.perf_counter()
        for number in range(steps):
            trainer.step(number)
        trainer.wait()
        seconds = time.perf_counter() - began
        parts = [trainer.parts() for _ in range(steps)]
    return TrainingRow(
        images_per_second=steps * trainer.loop.batch_size / seconds,
        first_step=first_step,
        parts={part: statistics.median(times) for part, times in zip(PARTS, zip(*parts, strict=True), strict=True)},
        memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def report(
    config: TrainingConfig, name: str, data: Path | None, names: Sequence[str], workers: int, steps: int
) -> TrainingReport:
    """Measure the named variants; the baseline is always among them, first."""
    accelerator = join_processes(config.loop.mixed_precision)
    device, precision, batch_size = accelerator.device, accelerator.mixed_precision, config.loop.batch_size
    rows, parameters = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            make_faces(Path(folder), config.data.image_size)
        for variant in [BASELINE, *(variant for variant in names if variant != BASELINE)]:
            adapted = adapt(config, VARIANTS[variant], precision, batch_size, workers)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            torch.compiler.reset()
            trainer = Trainer(adapted, data or Path(folder), accelerator)
            parameters = sum(weight.numel() for weight in trainer.task.model.parameters())
            rows[variant] = measure(trainer, steps)
            accelerator.free_memory()
            del trainer
    return TrainingReport(
        config=name,
        data=None if data is None else str(data),
        device=device_name(device),
        precision=precision,
        batch_size=batch_size,
        size=config.data.image_size,
        parameters=parameters,
        workers=workers,
        cores=os.cpu_count() or 1,
        steps=steps,
        rows=rows,
    )


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor and its vectors."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def read_config(name: str) -> TrainingConfig:
    """Read a config of any kind: a YAML file or the name of a shipped one."""
    path = shipped_config(name) or name
    errors = []
    for kind, config_class in CONFIGS.items():
        try:
            return load_config(config_class, path)
        except ValueError as error:
            errors.append(f"as a {kind}'s: {error}")
    raise ValueError(f"`--config` is {name}, and no config of a training; {'; '.join(errors)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure how fast a training is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description="Speed of a training, and what share its parts have."
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--config", default="mini_prior", help="YAML file or name of a shipped one (default: mini_prior)"
    )
    parser.add_argument("--data", type=Path, help="folder of faces (default: pictures that are made up)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "no", "bf16"], help="default: auto")
    parser.add_argument("--batch-size", type=int, help="images a step (default: the config's)")
    parser.add_argument("--image-size", type=int, help="their side, pixels (default: the config's)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read faces one by one (default: 0)")
    parser.add_argument("--steps", type=int, default=20, help="to measure, of each kind (default: 20)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, help="default: all that can be, but compiled on a GPU only"
    )
    args = parser.parse_args(argv)
    for name in ("batch_size", "image_size", "steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no such GPU")
    PartialState(cpu=args.device == "cpu")  # what accelerate then takes
    if args.device == "cpu":
        keep_freed_memory()  # as `difface train` does

    default = [name for name, variant in VARIANTS.items() if args.device == "cuda" or not variant.compiled]
    try:
        config = read_config(args.config)
        if not isinstance(config, PriorConfig) and config.degradation.wear_probability:
            default = [name for name in default if not VARIANTS[name].on_device]
        size = args.image_size or config.data.image_size
        data = dataclasses.replace(config.data, image_size=size)
        batch_size = args.batch_size or config.loop.batch_size
        loop = dataclasses.replace(config.loop, batch_size=batch_size, mixed_precision=args.precision)
        config = dataclasses.replace(config, data=data, loop=loop)
        figures = report(config, args.config, args.data, args.variants or default, args.workers, args.steps)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    figures.write(args.output, "training")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
