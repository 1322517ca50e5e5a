"""The original LaMa inpainting network to `LaMaEstimator`."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from ...models.lama import LaMaEstimator
from .checkpoints import load_strictly, read_config, read_state_dict, renamed


REQUIRED = ("input_nc", "output_nc", "ngf", "n_downsampling", "n_blocks", "resnet_conv_kwargs")
LOCAL_ONLY = {"ratio_gin": 0, "ratio_gout": 0, "enable_lfu": False}
ONLY = {
    "input_nc": 4,
    "output_nc": 3,
    "add_out_act": "sigmoid",
    "init_conv_kwargs": LOCAL_ONLY,
    "downsample_conv_kwargs": LOCAL_ONLY,
}
MAX_CHANNELS = 1024  # the original widens its layers no further
COUNTER = "num_batches_tracked"  # of batch normalization; without effect on a trained network

RENAMES = (  # ours, the original's, inside a Fourier convolution
    (r"\.local_to_local\.", ".ffc.convl2l."),
    (r"\.local_to_global\.", ".ffc.convl2g."),
    (r"\.global_to_local\.", ".ffc.convg2l."),
    (r"\.global_to_global\.conv_in\.", ".ffc.convg2g.conv1.0."),
    (r"\.global_to_global\.norm_in\.", ".ffc.convg2g.conv1.1."),
    (r"\.global_to_global\.conv_fourier\.", ".ffc.convg2g.fu.conv_layer."),
    (r"\.global_to_global\.norm_fourier\.", ".ffc.convg2g.fu.bn."),
    (r"\.global_to_global\.conv_out\.", ".ffc.convg2g.conv2."),
    (r"\.norm_local\.", ".bn_l."),
    (r"\.norm_global\.", ".bn_g."),
)


def original_key(key: str, num_downsamples: int, num_blocks: int) -> str:
    """Name in the original checkpoint of the tensor that `LaMaEstimator` calls `key`.

    The original is one sequence: padding, first convolution, down-samplings, blocks, concatenation, then convolution,
    normalization and activation of each up-sampling, padding, last convolution.
    """
    part, _, rest = key.partition(".")
    index, _, inner = rest.partition(".")
    first_up = 2 + num_downsamples + num_blocks + 1
    if part == "conv_in":
        name = f"model.1.{rest}"
    elif part == "down":
        name = f"model.{2 + int(index)}.{inner}"
    elif part == "blocks":
        name = f"model.{2 + num_downsamples + int(index)}.{inner}"
    elif part == "up":
        name = f"model.{first_up + 3 * int(index)}.{inner}"
    elif part == "norm_up":
        name = f"model.{first_up + 3 * int(index) + 1}.{inner}"
    else:
        name = f"model.{first_up + 3 * num_downsamples + 1}.{rest}"
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def global_ratio(arguments: Mapping[str, Any]) -> float:
    """Return the share of global channels that the blocks of the original have."""
    ratio = arguments.get("ratio_gin", 0)
    if arguments != {"ratio_gin": ratio, "ratio_gout": ratio, "enable_lfu": False}:
        raise ValueError(
            f"`resnet_conv_kwargs` is {dict(arguments)}; it must have equal ratio_gin and ratio_gout, and enable_lfu False."
        )
    return ratio


def convert_lama(original_state_dict: Mapping[str, torch.Tensor], original_config: Mapping[str, Any]) -> LaMaEstimator:
    """Convert an original LaMa inpainting network.

    Args:
        original_state_dict: its checkpoint, with or without an outer `state_dict` and a `module.` prefix.
        original_config: its arguments in the original's names.

    Returns:
        The estimator in eval mode, with its own copy of the weights in float32.
    """
    config = read_config(original_config, REQUIRED, {}, ONLY)
    num_downsamples, num_blocks = config["n_downsampling"], config["n_blocks"]
    if config["ngf"] * 2**num_downsamples > MAX_CHANNELS:
        raise ValueError(
            f"`ngf` is {config['ngf']}; after {num_downsamples} doublings it must be at most {MAX_CHANNELS}."
        )
    state_dict = read_state_dict(original_state_dict)
    with torch.device("meta"):
        model = LaMaEstimator(
            base_channels=config["ngf"],
            num_downsamples=num_downsamples,
            num_blocks=num_blocks,
            global_ratio=global_ratio(config["resnet_conv_kwargs"]),
        )
    entries = renamed(model, lambda key: original_key(key, num_downsamples, num_blocks))
    counters = {key: torch.tensor(0) for key in entries if key.endswith(COUNTER)}
    return load_strictly(model, counters | state_dict, entries)
