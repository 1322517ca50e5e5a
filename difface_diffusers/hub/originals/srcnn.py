"""The original SRCNN, in both its variants, to `SRCNNEstimator`."""

from collections.abc import Mapping
from typing import Any

import torch

from ...models.srcnn import SRCNNEstimator
from .checkpoints import load_strictly, read_config, read_state_dict, renamed


DEFAULTS = {"out_chns": None, "num_chns": 64, "depth": 8, "sf": 4, "down_scale_factor": None}


def convert_srcnn(
    original_state_dict: Mapping[str, torch.Tensor], original_config: Mapping[str, Any]
) -> SRCNNEstimator:
    """Convert an original SRCNN; with `down_scale_factor` in its configuration it is the same-size variant.

    Args:
        original_state_dict: its checkpoint, with or without an outer `state_dict` and a `module.` prefix.
        original_config: its arguments in the original's names.

    Returns:
        The estimator in eval mode, with its own copy of the weights in float32.
    """
    config = read_config(original_config, required=("in_chns",), defaults=DEFAULTS, only={})
    state_dict = read_state_dict(original_state_dict)
    with torch.device("meta"):
        model = SRCNNEstimator(
            in_channels=config["in_chns"],
            out_channels=config["out_chns"],
            num_channels=config["num_chns"],
            depth=config["depth"],
            sf=config["sf"],
            down_scale_factor=config["down_scale_factor"],
        )
    return load_strictly(model, state_dict, renamed(model, original_key=str))  # the names are the same
