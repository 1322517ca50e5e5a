"""One training loop for all networks: accumulate, step, average, log, draw sheets, save, resume exactly."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from diffusers.models.modeling_utils import ModelMixin
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .config import LoopConfig, TrainingConfig, save_config
from .data import FaceDataset, PositionSampler


CHECKPOINT = "checkpoint-{step:08d}"


class Task(Protocol):
    """What is trained. `name` is the subfolder of the finished model."""

    name: str
    model: ModelMixin

    @property
    def config(self) -> TrainingConfig:
        """The settings of the whole training."""

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the scalar loss of a batch; `model` is `self.model` as accelerate wraps it."""

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Draw what the model does with a fixed batch."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training ended: the step it reached and whether that was the last one."""

    step: int
    finished: bool


def copy_weights(source: ModelMixin, target: ModelMixin) -> None:
    """Give a model the weights of another one of the same architecture."""
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ValueError("a model of another architecture.") from error


def build_model(
    model_class: type[ModelMixin],
    settings: dict[str, Any],
    initial_weights: str | None,
    component: str,
    transfer: Callable[[Any, Any], None] = copy_weights,
) -> ModelMixin:
    """Build the model that a config describes.

    Args:
        model_class: what to build.
        settings: its arguments; none with initial weights stand for those of the saved model.
        initial_weights: folder of a saved model, or of a pipeline that has one, to start from; `None` starts at random.
        component: name of the model in a pipeline.
        transfer: called with the saved model and the new one, gives the latter its weights; raises a `ValueError` where
            they do not fit.

    Raises:
        ValueError: unknown or unfit settings; initial weights that are missing or do not fit.
    """
    if initial_weights is None:
        return _build(model_class, settings)
    if not Path(initial_weights).is_dir():
        raise ValueError(
            f"`initial_weights` is {initial_weights}; it must be the folder of a saved model or pipeline."
        )
    try:
        initial = _load(model_class, Path(initial_weights), component)
        model = _build(model_class, settings) if settings else model_class.from_config(initial.config)
        transfer(initial, model)
    except (OSError, ValueError) as error:
        raise ValueError(f"`initial_weights` is {initial_weights}: {error}") from error
    return model


def _build(model_class: type[ModelMixin], settings: dict[str, Any]) -> ModelMixin:
    try:
        return model_class(**settings)
    except TypeError as error:
        raise ValueError(f"`model`: {error}") from error


def _load(model_class: type[ModelMixin], folder: Path, component: str) -> ModelMixin:
    """Load a saved model or a pipeline's; a base class's are the class's own."""
    folder = folder / component if (folder / "model_index.json").is_file() else folder
    saved, accepted = model_class.load_config(folder)["_class_name"], [base.__name__ for base in model_class.__mro__]
    if saved not in accepted:
        raise ValueError(f"{folder} holds a {saved}; it must hold a {model_class.__name__}.")
    return model_class.from_pretrained(folder)


def train(task: Task, dataset: FaceDataset, config: LoopConfig, output: str | Path) -> TrainingResult:
    """Train until `max_steps`, or until SIGINT or SIGTERM, from the newest checkpoint in `output` if there is one.

    Everything random in a forward pass is a function of the seed and the place of its batch in the stream. So an interrupted
    training that is resumed ends with the weights of an uninterrupted one, and P processes do, but for rounding, what one
    process does with P times the accumulation.

    Args:
        task: model, loss and sample sheet.
        dataset: where position p is drawn in step p // (batch size of all processes and accumulations).
        config: settings of the loop.
        output: receives `config.yaml`, `checkpoint-*/`, `sheets/`, `log.jsonl` and, at the end, the averaged model
            under its name.

    Returns:
        The step that was reached; not finished when a signal stopped the loop, a checkpoint having been written.
    """
    output = Path(output)
    accelerator = _accelerator(config.mixed_precision)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    ema = EMAModel(task.model.parameters(), decay=config.ema_decay, foreach=True)
    step = load_checkpoint(output, task.model, ema, optimizer)
    if config.gradient_checkpointing:
        task.model.enable_gradient_checkpointing()
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        save_config(task.config, output / "config.yaml")
        _forget_lines_after(output / "log.jsonl", step)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    ema.to(accelerator.device)

    sampler = PositionSampler(
        step * config.gradient_accumulation_steps,
        config.max_steps * config.gradient_accumulation_steps,
        config.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    batches = iter(
        DataLoader(
            dataset, batch_sampler=sampler, num_workers=config.num_workers, worker_init_fn=_leave_signals_to_the_loop
        )
    )
    sheet_batch = torch.utils.data.default_collate([dataset[position] for position in range(8)])
    sheet_batch = _to(sheet_batch, accelerator.device)
    progress = tqdm(total=config.max_steps, initial=step, disable=not accelerator.is_main_process, mininterval=5)
    losses: list[float] = []
    log_time = time.monotonic()

    model.train()
    with _stop_on_signal() as stop:
        while step < config.max_steps and not _any(stop, accelerator):
            loss = take_step(task, model, batches, optimizer, accelerator, config, step)
            ema.step(task.model.parameters())
            step += 1
            progress.update()

            if not accelerator.is_main_process:
                continue
            losses.append(loss)
            if step % config.log_every == 0:
                seconds, log_time = time.monotonic() - log_time, time.monotonic()
                entry = {"step": step, "loss": round(float(np.mean(losses)), 6), "seconds": round(seconds, 1)}
                _append_line(output / "log.jsonl", json.dumps(entry))
                progress.set_postfix(loss=f"{entry['loss']:.4f}")
                losses.clear()
            if step % config.sheet_every == 0:
                with averaged_weights(task.model, ema):
                    _save_picture(task.sheet(task.model, sheet_batch), output / "sheets" / f"{step:08d}.png")
            if step % config.checkpoint_every == 0:
                save_checkpoint(output, step, task.model, ema, optimizer, config.checkpoints_kept)

        # Still under the handlers: a launcher passes on the signal that the terminal has already sent.
        progress.close()
        finished = step >= config.max_steps
        if accelerator.is_main_process:
            save_checkpoint(output, step, task.model, ema, optimizer, config.checkpoints_kept)
            if finished:
                with averaged_weights(task.model, ema):
                    task.model.save_pretrained(output / task.name)
        accelerator.wait_for_everyone()
    # A process group that is last held by a parallel model hangs now and then on its way out, so that goes first.
    model, optimizer = accelerator.free_memory(model, optimizer)
    accelerator.end_training()
    return TrainingResult(step, finished)


def take_step(
    task: Task,
    model: torch.nn.Module,
    batches: Iterator[dict[str, torch.Tensor]],
    optimizer: AcceleratedOptimizer,
    accelerator: Accelerator,
    config: LoopConfig,
    step: int,
) -> float:
    """Update the weights once and return the loss, the mean over all processes and their accumulated batches."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)

    losses = []
    for micro_step in range(config.gradient_accumulation_steps):
        last = micro_step == config.gradient_accumulation_steps - 1
        batch = step * config.gradient_accumulation_steps + micro_step
        place = batch * accelerator.num_processes + accelerator.process_index
        torch.manual_seed(int(np.random.SeedSequence([config.seed, place]).generate_state(1)[0]))
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            loss = task.loss(model, _to(next(batches), accelerator.device))
            accelerator.backward(loss / config.gradient_accumulation_steps)
        losses.append(loss.detach())
    accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return accelerator.reduce(torch.stack(losses).mean(), "mean").item()


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up from zero, then a cosine from `learning_rate` to `final_learning_rate` at `max_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


@contextlib.contextmanager
def averaged_weights(model: ModelMixin, ema: EMAModel) -> Generator[None]:
    """Give the model its averaged weights and evaluation mode; the trained weights come back on the way out."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        ema.restore(model.parameters())
        model.train()


def save_checkpoint(
    output: Path, step: int, model: ModelMixin, ema: EMAModel, optimizer: torch.optim.Optimizer, kept: int
) -> None:
    """Write `checkpoint-<step>/` in one move and delete all but the newest `kept`."""
    folder = output / CHECKPOINT.format(step=step)
    if folder.exists():
        return
    temporary = output / f".{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(model.state_dict(), temporary / "model.safetensors")
    names = [name for name, _ in model.named_parameters()]
    save_file(dict(zip(names, ema.shadow_params, strict=True)), temporary / "ema.safetensors")
    state = optimizer.state_dict()["state"]
    moments = {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()}
    save_file(moments, temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps({"step": step, "ema_step": ema.optimization_step}))
    os.replace(temporary, folder)
    for old in _checkpoints(output)[:-kept]:
        shutil.rmtree(old)


def load_checkpoint(output: Path, model: ModelMixin, ema: EMAModel, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint in `output` and return its step; 0 when there is none.

    Raises:
        ValueError: the checkpoint is of another model.
    """
    checkpoints = _checkpoints(output)
    if not checkpoints:
        return 0
    folder = checkpoints[-1]
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise ValueError(f"`output` is {output}, which holds {folder.name} of another model.") from error
    averaged = load_file(folder / "ema.safetensors")
    for (name, _), shadow in zip(model.named_parameters(), ema.shadow_params, strict=True):
        shadow.copy_(averaged[name])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(folder / "optimizer.safetensors").items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    progress = json.loads((folder / "state.json").read_text())
    ema.optimization_step = progress["ema_step"]
    return progress["step"]


def _checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob(CHECKPOINT.split("{")[0] + "*"))


def _accelerator(mixed_precision: str) -> Accelerator:
    """Join the processes of a launcher, those on a CPU too, which accelerate leaves apart unless it is told."""
    several_on_cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    accelerator = Accelerator(cpu=several_on_cpu, mixed_precision=mixed_precision)
    if accelerator.num_processes == 1 and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys():
        warnings.warn(
            "`accelerate launch` was asked for several processes but started one: on a CPU it starts several only with"
            " `--multi_gpu`, which stands for several processes of any kind.",
            stacklevel=3,
        )
    return accelerator


@contextlib.contextmanager
def _stop_on_signal() -> Generator[list[int]]:
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


def _leave_signals_to_the_loop(worker: int) -> None:
    """Keep a loader's worker alive when the whole process group is told to stop: the step under way needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _any(received: list[int], accelerator: Accelerator) -> bool:
    """Whether any process was told to stop: all must leave the loop in the same step."""
    return bool(accelerator.reduce(torch.tensor(len(received), device=accelerator.device), "sum"))


def _to(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in batch.items()}


def _append_line(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")


def _forget_lines_after(path: Path, step: int) -> None:
    """Drop the log of steps that are taken again, and a last line that was cut short."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _save_picture(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
