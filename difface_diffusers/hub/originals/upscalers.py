"""Real-ESRGAN's networks from their original files: what they are is read off the keys."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...models.rrdbnet import FOLDING, RRDBNet
from ...models.srvgg import SRVGGNetCompact
from .checkpoints import load_checkpoint, load_strictly, read_state_dict, renamed


NUMBERED = re.compile(r"body\.(\d{1,4})\.")
WRAPPERS = "params_ema", "params"  # the first that there is; the averaged weights are those to use


def convert_upscaler(original_state_dict: Mapping[str, Any]) -> RRDBNet | SRVGGNetCompact:
    """Convert an original RRDBNet or SRVGGNetCompact; scale, depth and width are read off the tensors.

    Args:
        original_state_dict: tensors by key, or a dictionary that holds such a one as `params_ema`, `params` or `state_dict`.

    Returns:
        The network in eval mode, with its own copy of the weights in float32.

    Raises:
        ValueError: it is neither of the two, or does not fit.
    """
    if isinstance(original_state_dict, Mapping):
        wrapper = next((name for name in WRAPPERS if name in original_state_dict), None)
        original_state_dict = original_state_dict if wrapper is None else original_state_dict[wrapper]
    state_dict = read_state_dict(original_state_dict)
    with torch.device("meta"):
        model = _build(state_dict)
    return load_strictly(model, state_dict, renamed(model, original_key=str))  # the names are the same


def load_upscaler_file(path: str | Path) -> RRDBNet | SRVGGNetCompact:
    """Read and convert a file, `.pth` or `.safetensors`; no code that it may carry is run.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds something else; the message names the file.
    """
    path = Path(path)
    try:
        state_dict = load_file(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of safetensors, or is damaged: {error}") from error
    try:
        return convert_upscaler(state_dict)
    except ValueError as error:
        raise ValueError(f"{path} is no RRDBNet or SRVGGNetCompact of Real-ESRGAN: {error}") from error


def _build(state_dict: Mapping[str, torch.Tensor]) -> RRDBNet | SRVGGNetCompact:
    """Return a network that these tensors may fit."""
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    numbers = {int(found[1]) for key in shapes if (found := NUMBERED.match(key))}
    depth = len(numbers) if numbers == set(range(len(numbers))) else 0
    first, growing = shapes.get("conv_first.weight", ()), shapes.get("body.0.rdb1.conv1.weight", ())
    if depth and len(first) == len(growing) == 4:
        scale = next((scale for scale, folding in FOLDING.items() if 3 * folding**2 == first[1]), None)
        if scale is None:
            raise ValueError(f"`conv_first.weight` takes {first[1]} channels; known are 3, 12 and 48.")
        return RRDBNet(scale, first[0], depth, growing[0])
    first, last = shapes.get("body.0.weight", ()), shapes.get(f"body.{depth - 1}.weight", ())
    if depth and len(first) == len(last) == 4:
        return SRVGGNetCompact(round((last[0] / 3) ** 0.5), first[0], (depth - 3) // 2)
    raise ValueError(
        f"its {len(shapes)} keys are those of neither, for instance {', '.join(sorted(shapes)[:3]) or 'none'}."
    )
