"""Checkpoints of a training: what it takes to go on as if nothing had happened, in a folder that is whole or not there."""

import json
import os
import shutil
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..utils.atomic import whole_file


CHECKPOINT, PROGRESS = "checkpoint-{step:08d}", "state.json"


def save_checkpoint(
    output: Path,
    step: int,
    model: ModelMixin,
    ema: EMAModel,
    optimizer: torch.optim.Optimizer,
    kept: int,
    share: float = 0.0,
) -> None:
    """Write `checkpoint-<step>/` in one move and delete all but the newest `kept`.

    `share` is what is over of a training's time, see `Clock`; in a checkpoint that is there already it is all that changes.

    Raises:
        FloatingPointError: a number in it is not finite; nothing was written or deleted.
        OSError, SafetensorError: it cannot be written; the others are still there.
    """
    folder = output / CHECKPOINT.format(step=step)
    kind = type(optimizer).__name__
    numbers = {"step": step, "ema_step": ema.optimization_step, "share": share, "optimizer": kind}
    progress = json.dumps(numbers).encode()
    if folder.exists():
        with whole_file(folder / PROGRESS) as file:
            file.write(progress)
        return
    names = [name for name, _ in model.named_parameters()]
    state = optimizer.state_dict()["state"]
    files = {
        "model": model.state_dict(),
        "ema": dict(zip(names, ema.shadow_params, strict=True)),
        "optimizer": {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()},
    }
    for file, tensors in files.items():
        _check_finite(file, tensors, step, optimizer.param_groups[0]["lr"])
    for unfinished in output.glob(f".{CHECKPOINT.split('{')[0]}*"):
        shutil.rmtree(unfinished)
    temporary = output / f".{folder.name}"
    temporary.mkdir(parents=True)
    try:
        for file, tensors in files.items():
            rows = {name: tensor.contiguous() for name, tensor in tensors.items()}  # they may be laid out otherwise
            save_file(rows, temporary / f"{file}.safetensors")
        (temporary / PROGRESS).write_bytes(progress)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # makes room on a full disk
        raise
    for old in find_checkpoints(output)[:-kept]:
        shutil.rmtree(old)


def load_checkpoint(output: Path, model: ModelMixin, ema: EMAModel, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint in `output` and return its step; 0 when there is none.

    The moments of another optimizer are left where they are: this one begins without.

    Raises:
        ValueError: the checkpoint is of another model, or cannot be read.
    """
    checkpoints = find_checkpoints(output)
    if not checkpoints:
        return 0
    folder = checkpoints[-1]
    try:
        weights, averaged, moments = (
            load_file(folder / f"{file}.safetensors") for file in ("model", "ema", "optimizer")
        )
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        before = f"go on from {checkpoints[-2].name}" if len(checkpoints) > 1 else "begin anew"
        raise ValueError(
            f"`output` is {output}, whose {folder.name} cannot be read ({error}); delete that folder to {before}."
        ) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"`output` is {output}, which holds {folder.name} of another model.") from error
    for (name, _), shadow in zip(model.named_parameters(), ema.shadow_params, strict=True):
        shadow.copy_(averaged[name])
    ema.optimization_step = progress["ema_step"]
    if progress.get("optimizer", "AdamW") != type(optimizer).__name__:
        return progress["step"]
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = list(model.parameters())
    for name, value in moments.items():
        index, key = name.split(".")
        if value.shape == parameters[int(index)].shape:
            value = torch.empty_like(parameters[int(index)], dtype=value.dtype).copy_(value)  # laid out alike
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return progress["step"]


def saved_share(output: Path) -> float:
    """Return what was over of a training's time at the newest checkpoint in `output`; 0 when there is none."""
    checkpoints = find_checkpoints(output)
    return (
        json.loads((checkpoints[-1] / PROGRESS).read_text(encoding="utf-8")).get("share", 0.0) if checkpoints else 0.0
    )


def how_to_go_on(output: Path) -> str:
    """Return what the command does when it is run again."""
    checkpoints = find_checkpoints(output)
    start = f"goes on from {checkpoints[-1].name}" if checkpoints else "begins anew, as there is no checkpoint yet"
    return f"the same command {start}"


def find_checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    return sorted(output.glob(CHECKPOINT.split("{")[0] + "*"))


def _check_finite(file: str, tensors: dict[str, torch.Tensor], step: int, learning_rate: float) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FloatingPointError(
                f"after step {step}, at the learning rate {learning_rate:g}, `{name}` of {file} is not finite"
            )
