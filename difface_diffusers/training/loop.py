"""One training loop for all networks: accumulate, step, average, log, draw sheets, save, resume exactly."""

import contextlib
import dataclasses
import math
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from diffusers.models.modeling_utils import ModelMixin
from diffusers.training_utils import EMAModel

from ..utils.atomic import replaced_folder
from .checking import check_faces
from .checkpoints import how_to_go_on, load_checkpoint, save_checkpoint, saved_share
from .clock import SAVE, SHOW, STEP, Clock
from .config import LoopConfig
from .data import FaceDataset, PositionSampler, to_device
from .device_faces import open_batches
from .failures import LostFaces, TrainingError, told_plainly
from .hardware import average, compile_network, fast_arithmetic, lay_out, make_optimizer, step_if
from .monitoring import Monitor
from .processes import join_processes, stop_on_signal, summed
from .recent_steps import RecentSteps
from .resuming import check_output, describe_run, note_run
from .schedule import learning_rate
from .task import Task


STOPPED, LACKING, OVER = "stopped", "lacking", "over"  # by a signal, lacking faces, out of time


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        step: the last one that was taken.
        finished: whether the averaged weights are saved, `max_steps` being reached or `max_seconds` over.
        unpublished: why the weights are not on the Hub and what is to be done; `None` when they are or need not be.
        out_of_time: whether it was `max_seconds` that ended it.
    """

    step: int
    finished: bool
    unpublished: str | None = None
    out_of_time: bool = False


def train(
    task: Task,
    dataset: FaceDataset,
    config: LoopConfig,
    output: str | Path,
    go_on: bool = False,
    clock: Clock | None = None,
) -> TrainingResult:
    """Train until `max_steps`, `max_seconds`, SIGINT or SIGTERM, from the newest checkpoint in `output` if there is one.

    Everything random in a forward pass is a function of the seed and the place of its batch in the stream. So an interrupted
    training that is resumed ends with the weights of an uninterrupted one, and P processes do, but for rounding, what one
    process does with P times the accumulation.

    Args:
        task: model, loss and sample sheet.
        dataset: where position p is drawn in step p // (batch size of all processes and accumulations).
        config: settings of the loop.
        output: receives `config.yaml`, `run.json`, `checkpoint-*/`, what a `Monitor` writes and, at the end, the averaged
            model under its name.
        go_on: go on in an `output` of other settings too.
        clock: what `max_seconds` is measured by; `None` begins now.

    Returns:
        The step that was reached; not finished when a signal stopped the loop, a checkpoint having been written.

    Raises:
        ValueError: faces cannot be used, see `check_faces`, or `output` belongs to another training, see `check_output`.
        TrainingError: the loss or a gradient is not finite, faces can no longer be read, or `output` not be written to. The
            last checkpoint is whole.
    """
    clock = clock or Clock(config.max_seconds)
    output = Path(output)
    accelerator = join_processes(config.mixed_precision)
    faces = check_faces(dataset, task.config.monitoring.validation, accelerator)
    run = describe_run(faces, accelerator.num_processes)
    check_output(output, task, run, go_on)
    device = accelerator.device
    lay_out(task.model, config, device)
    optimizer = make_optimizer(task.model, config, device)
    ema = EMAModel(task.model.parameters(), decay=config.ema_decay, foreach=True)
    step = load_checkpoint(output, task.model, ema, optimizer)
    if config.gradient_checkpointing:
        task.model.enable_gradient_checkpointing()
    averaged = partial(averaged_weights, task.model, ema)
    monitor = Monitor(task, averaged, faces, config, accelerator, output, step)
    if accelerator.is_main_process:
        note_run(output, task.config, run)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    network = compile_network(model, config, accelerator)
    ema.to(device)

    sampler = PositionSampler(
        step * config.gradient_accumulation_steps,
        config.max_steps * config.gradient_accumulation_steps,
        config.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
    )
    batches = open_batches(faces.trained, sampler, config.num_workers, device)

    model.train()
    clock.begin(saved_share(output))
    first, ending, lost, recent = step, None, None, RecentSteps(config)
    with fast_arithmetic(device), told_plainly(output), contextlib.closing(monitor), stop_on_signal() as signals:
        while step < config.max_steps:
            group, lost = _fetch(batches, config.gradient_accumulation_steps)
            over = clock.is_over(_coming(step + 1, monitor, config))
            ending, share = _agree(bool(signals), lost is not None, over, clock.share, accelerator)
            if ending is not None:
                break
            rate = learning_rate(step, config, share)
            recent.add(step, rate, take_step(task, network, group, optimizer, accelerator, config, step, rate))
            average(ema, task.model)
            step += 1
            rehearsal = config.max_seconds is not None and step == first + 1  # shows what all of this takes
            losses = recent.look() if rehearsal or recent.is_due(step, device) else []
            clock.lap(STEP)
            monitor.after_step(step, losses, rate, rehearsal)
            clock.lap(SHOW)
            due = step < config.max_steps and (rehearsal or step % config.checkpoint_every == 0)
            if accelerator.is_main_process and due:
                save_checkpoint(
                    output, step, task.model, ema, optimizer.optimizer, config.checkpoints_kept, clock.share
                )
                monitor.after_checkpoint(step)
                clock.lap(SAVE)

        # Still under the handlers: a launcher passes on the signal that the terminal has already sent.
        finished = ending in (None, OVER)
        recent.look()
        if accelerator.is_main_process:
            share = 1.0 if finished else clock.share
            save_checkpoint(output, step, task.model, ema, optimizer.optimizer, config.checkpoints_kept, share)
            if finished:
                with averaged(), replaced_folder(output / task.name) as folder:
                    task.model.save_pretrained(folder)
        if ending == OVER:
            monitor.validate(step)
        accelerator.wait_for_everyone()
    # A process group that is last held by a parallel model hangs now and then on its way out, so that goes first.
    model, network, optimizer = accelerator.free_memory(model, network, optimizer)
    accelerator.end_training()
    if ending == LACKING:
        raise TrainingError(f"{lost or 'another process lacks faces, see there'}; {how_to_go_on(output)}.") from lost
    with told_plainly(output):
        return TrainingResult(step, finished, monitor.finish(step) if finished else None, ending == OVER)


def _coming(step: int, monitor: Monitor, config: LoopConfig) -> list[str]:
    """Return what a step, counted from 1, brings with it."""
    shown = [SHOW] if monitor.is_due(step) else []
    return [STEP, *shown, *([SAVE] if step % config.checkpoint_every == 0 else [])]


def _agree(
    stopped: bool, lacking: bool, over: bool, share: float, accelerator: Accelerator
) -> tuple[str | None, float]:
    """Return why the steps end, if they do in any process, and the share of the time that is over by the main one's clock."""
    if not accelerator.is_main_process:
        over, share = False, 0.0
    *flags, share = summed([stopped, lacking, over, share], accelerator)
    return next((ending for ending, flag in zip((STOPPED, LACKING, OVER), flags, strict=True) if flag), None), share


def _fetch(
    batches: Iterator[dict[str, torch.Tensor]], number: int
) -> tuple[list[dict[str, torch.Tensor]], LostFaces | None]:
    """Return the next batches, or why they cannot be read."""
    try:
        return [next(batches) for _ in range(number)], None
    except LostFaces as error:
        return [], error


def take_step(
    task: Task,
    network: torch.nn.Module,
    batches: list[dict[str, torch.Tensor]],
    optimizer: AcceleratedOptimizer,
    accelerator: Accelerator,
    config: LoopConfig,
    step: int,
    rate: float,
) -> torch.Tensor:
    """Update the weights once, at a learning rate, unless the loss or a gradient is not finite. The device is not waited for.

    Returns:
        `[2]`, float32, on the device: the loss, the mean over all processes and their accumulated batches, and the norm of the
        gradients. If one of them is not finite, the weights are as before.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate

    losses = []
    for micro_step, batch in enumerate(batches):
        place = (step * len(batches) + micro_step) * accelerator.num_processes + accelerator.process_index
        torch.manual_seed(int(np.random.SeedSequence([config.seed, place]).generate_state(1)[0]))
        with contextlib.nullcontext() if micro_step == len(batches) - 1 else accelerator.no_sync(network):
            loss = task.loss(network, to_device(batch, accelerator.device))
            accelerator.backward(loss / len(batches))
        losses.append(loss.detach())
    return update_weights(
        torch.stack(losses).mean(), network.parameters(), optimizer, accelerator, config.max_grad_norm
    )


def update_weights(
    loss: torch.Tensor,
    parameters: Iterator[torch.nn.Parameter],
    optimizer: AcceleratedOptimizer,
    accelerator: Accelerator,
    max_grad_norm: float | None,
) -> torch.Tensor:
    """Clip the gradients and step with them, unless they or the loss are not finite; see `take_step`."""
    norm = accelerator.clip_grad_norm_(parameters, math.inf if max_grad_norm is None else max_grad_norm)
    figures = accelerator.reduce(torch.stack([loss.float(), norm.float()]), "mean")
    step_if(figures.isfinite().all(), optimizer.optimizer)
    optimizer.zero_grad()
    return figures


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
