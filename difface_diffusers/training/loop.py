"""One training loop for all networks: accumulate, step, average, log, draw sheets, save, resume exactly."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import warnings
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from diffusers.models.modeling_utils import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file

from .config import LoopConfig, save_config
from .data import FaceDataset, PositionSampler, load_batches, to_device
from .monitoring import Monitor
from .task import Task


CHECKPOINT = "checkpoint-{step:08d}"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training ended: the step it reached, whether that was the last one, and what it could not upload.

    Attributes:
        step: the last one that was taken.
        finished: whether it was the last of all.
        unpublished: why the weights are not on the Hub and what is to be done; `None` when they are or need not be.
    """

    step: int
    finished: bool
    unpublished: str | None = None


def train(task: Task, dataset: FaceDataset, config: LoopConfig, output: str | Path) -> TrainingResult:
    """Train until `max_steps`, or until SIGINT or SIGTERM, from the newest checkpoint in `output` if there is one.

    Everything random in a forward pass is a function of the seed and the place of its batch in the stream. So an interrupted
    training that is resumed ends with the weights of an uninterrupted one, and P processes do, but for rounding, what one
    process does with P times the accumulation.

    Args:
        task: model, loss and sample sheet.
        dataset: where position p is drawn in step p // (batch size of all processes and accumulations).
        config: settings of the loop.
        output: receives `config.yaml`, `checkpoint-*/`, what a `Monitor` writes and, at the end, the averaged model under
            its name.

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
    averaged = partial(averaged_weights, task.model, ema)
    monitor = Monitor(task, averaged, dataset, config, accelerator, output, step)
    if accelerator.is_main_process:
        save_config(task.config, output / "config.yaml")
    model, optimizer = accelerator.prepare(task.model, optimizer)
    ema.to(accelerator.device)

    sampler = PositionSampler(
        step * config.gradient_accumulation_steps,
        config.max_steps * config.gradient_accumulation_steps,
        config.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    batches = iter(load_batches(dataset, sampler, config.num_workers))

    model.train()
    with contextlib.closing(monitor), _stop_on_signal() as stop:
        while step < config.max_steps and not _any(stop, accelerator):
            loss = take_step(task, model, batches, optimizer, accelerator, config, step)
            ema.step(task.model.parameters())
            step += 1
            monitor.after_step(step, loss, learning_rate(step - 1, config))
            if accelerator.is_main_process and step % config.checkpoint_every == 0 and step < config.max_steps:
                save_checkpoint(output, step, task.model, ema, optimizer, config.checkpoints_kept)
                monitor.after_checkpoint(step)

        # Still under the handlers: a launcher passes on the signal that the terminal has already sent.
        finished = step >= config.max_steps
        if accelerator.is_main_process:
            save_checkpoint(output, step, task.model, ema, optimizer, config.checkpoints_kept)
            if finished:
                with averaged():
                    task.model.save_pretrained(output / task.name)
        accelerator.wait_for_everyone()
    # A process group that is last held by a parallel model hangs now and then on its way out, so that goes first.
    model, optimizer = accelerator.free_memory(model, optimizer)
    accelerator.end_training()
    return TrainingResult(step, finished, monitor.finish(step) if finished else None)


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
            loss = task.loss(model, to_device(next(batches), accelerator.device))
            accelerator.backward(loss / config.gradient_accumulation_steps)
        losses.append(loss.detach())
    accelerator.clip_grad_norm_(model.parameters(), math.inf if config.max_grad_norm is None else config.max_grad_norm)
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


def _any(received: list[int], accelerator: Accelerator) -> bool:
    """Whether any process was told to stop: all must leave the loop in the same step."""
    return bool(accelerator.reduce(torch.tensor(len(received), device=accelerator.device), "sum"))
