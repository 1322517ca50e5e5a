"""What all converters share: reading an original checkpoint and configuration, and loading with nothing left over."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin


Model = TypeVar("Model", bound=ModelMixin)

INDEX_BUFFERS = ("relative_position_index", "attn_mask")  # follow from the configuration


@dataclass(frozen=True)
class Entry:
    """One tensor of an original checkpoint.

    Attributes:
        shape: in the original.
        targets: its keys in the converted model, more than one if it is split.
        convert: from the original's tensor to one tensor per target; `None` if the original is taken as it is.
    """

    shape: tuple[int, ...]
    targets: tuple[str, ...]
    convert: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] | None = None


def load_checkpoint(path: str | Path) -> Any:
    """Read a `.pth` file without running any code that it may carry.

    Args:
        path: a file written by `torch.save`.

    Returns:
        What it holds, on the CPU.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds more than tensors and plain containers, is damaged, or is no checkpoint at all.
    """
    with open(path, "rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make the unpickler stumble in any way
            other = isinstance(error, pickle.UnpicklingError)
            fault = "holds other objects or is no such file" if other else "is damaged or cut short"
            raise ValueError(
                f"{path} was refused: it must be a file of `torch.save` that holds nothing but tensors and plain"
                f" containers, but it {fault}."
            ) from error


def read_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Take the wrappers off an original checkpoint.

    Args:
        checkpoint: tensors by key, or a dictionary that holds such a one as `state_dict`; a `module.` prefix that all
            keys share, which training on several devices leaves behind, is cut off.

    Returns:
        The tensors by plain key, without the index buffers.
    """
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f"`original_state_dict` is a {type(checkpoint).__name__}; it must be a dictionary of tensors."
        )
    state_dict = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"`original_state_dict` holds a {type(state_dict).__name__} as `state_dict`; it must be a dictionary of"
            " tensors."
        )
    for key, value in state_dict.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"`original_state_dict` holds a {type(value).__name__} under {key!r}; it must hold tensors by name."
            )
    if all(key.startswith("module.") for key in state_dict):
        state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    return {key: value for key, value in state_dict.items() if key.rpartition(".")[2] not in INDEX_BUFFERS}


def read_config(
    original_config: Mapping[str, Any],
    required: tuple[str, ...],
    defaults: Mapping[str, Any],
    only: Mapping[str, Any],
) -> dict[str, Any]:
    """Check an original configuration, and complete it.

    Args:
        original_config: in the original's argument names.
        required: arguments that must be given.
        defaults: arguments that may be left out, with the original's defaults.
        only: arguments of which a single value can be converted, with that value; all but the required ones may be
            left out.

    Returns:
        All arguments.
    """
    if not isinstance(original_config, Mapping):
        raise ValueError(f"`original_config` is a {type(original_config).__name__}; it must be a dictionary.")
    accepted = {*required, *defaults, *only}
    unknown = [key for key in original_config if key not in accepted]
    missing = [key for key in required if key not in original_config]
    if unknown or missing:
        raise ValueError(
            f"`original_config` has unknown arguments {unknown} and misses {missing}; accepted are {sorted(accepted)}."
        )
    for key, value in only.items():
        if original_config.get(key, value) != value:
            raise ValueError(f"`{key}` is {original_config[key]!r}; only {value!r} can be converted.")
    return {**defaults, **only, **original_config}


def renamed(model: ModelMixin, original_key: Callable[[str], str]) -> dict[str, Entry]:
    """Entries of a checkpoint that differs from `model` in nothing but names.

    Args:
        model: the converted model.
        original_key: from a key of `model` to the original's.

    Returns:
        One entry for each key of the original.
    """
    return {original_key(key): Entry(tuple(value.shape), (key,)) for key, value in model.state_dict().items()}


def load_strictly(model: Model, state_dict: dict[str, torch.Tensor], entries: dict[str, Entry]) -> Model:
    """Give a model the tensors of an original checkpoint, every one of them and nothing else.

    Args:
        model: may have been built on the meta device; it gets its own copy of the weights, in float32.
        state_dict: tensors by plain original key.
        entries: what `state_dict` must consist of; the targets are all keys of `model`.

    Returns:
        `model` in eval mode.
    """
    misshaped = [
        f"{key} {list(state_dict[key].shape)}, expected {list(entry.shape)}"
        for key, entry in entries.items()
        if key in state_dict and tuple(state_dict[key].shape) != entry.shape
    ]
    faults = {
        "missing": [key for key in entries if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in entries],
        "mis-shaped": misshaped,
    }
    if any(faults.values()):
        lines = [f"{fault}: {'; '.join(keys)}" for fault, keys in faults.items() if keys]
        raise ValueError("\n".join(["`original_state_dict` does not fit `original_config`.", *lines]))

    converted = {}
    for key, entry in entries.items():
        original = state_dict[key].detach()
        parts = (original,) if entry.convert is None else entry.convert(original)
        for target, part in zip(entry.targets, parts, strict=True):
            dtype = torch.float32 if part.is_floating_point() else part.dtype
            converted[target] = part.to(dtype, copy=True, memory_format=torch.contiguous_format)
    model.load_state_dict(converted, assign=True)
    return model.eval()
