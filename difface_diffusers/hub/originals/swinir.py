"""The original SwinIR restorer to `SwinIREstimator`."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from ...models.swinir import SwinIREstimator
from .checkpoints import load_strictly, read_config, read_state_dict, renamed


REQUIRED = ("in_chans", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "sf", "unshuffle_scale")
DEFAULTS = {"img_size": 64, "img_range": 1.0, "drop_path_rate": 0.1, "use_checkpoint": False}
ONLY = {
    "patch_size": 1,
    "upsampler": "nearest+conv",
    "resi_connection": "1conv",
    "unshuffle": True,
    "ape": False,
    "patch_norm": True,
    "qkv_bias": True,
    "qk_scale": None,
    "drop_rate": 0,
    "attn_drop_rate": 0,
}

RENAMES = (  # ours, the original's; every pattern that matches is replaced
    (r"^conv_in\.", "conv_first.1."),
    (r"^norm_in\.", "patch_embed.norm."),
    (r"^groups\.(\d+)\.blocks\.", r"layers.\1.residual_group.blocks."),
    (r"^groups\.(\d+)\.conv\.", r"layers.\1.conv."),
    (r"\.norm_attn\.", ".norm1."),
    (r"\.bias_table$", ".relative_position_bias_table"),
    (r"\.norm_mlp\.", ".norm2."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
    (r"^norm_out\.", "norm."),
    (r"^conv_body\.", "conv_after_body."),
    (r"^conv_feat\.", "conv_before_upsample.0."),
    (r"^conv_up\.(\d+)", lambda match: f"conv_up{int(match[1]) + 1}"),
    (r"^conv_refine\.", "conv_hr."),
    (r"^conv_out\.", "conv_last."),
)


def original_key(key: str) -> str:
    """Name in the original checkpoint of the tensor that `SwinIREstimator` calls `key`."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def swinir_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `SwinIREstimator` for an original configuration with its defaults filled in."""
    return {
        "in_channels": config["in_chans"],
        "embed_dim": config["embed_dim"],
        "depths": tuple(config["depths"]),
        "num_heads": tuple(config["num_heads"]),
        "window_size": config["window_size"],
        "mlp_ratio": config["mlp_ratio"],
        "scale": config["sf"],
        "img_range": config["img_range"],
        "drop_path_rate": config["drop_path_rate"],
    }


def convert_swinir(
    original_state_dict: Mapping[str, torch.Tensor], original_config: Mapping[str, Any]
) -> SwinIREstimator:
    """Convert an original SwinIR restorer.

    Args:
        original_state_dict: its checkpoint, with or without an outer `state_dict`, a `module.` prefix and index
            buffers.
        original_config: its arguments in the original's names.

    Returns:
        The estimator in eval mode, with its own copy of the weights in float32.
    """
    config = read_config(original_config, REQUIRED, DEFAULTS, ONLY)
    if config["unshuffle_scale"] != config["sf"]:
        raise ValueError(f"`unshuffle_scale` is {config['unshuffle_scale']}; it must equal `sf`, {config['sf']}.")
    if config["img_size"] <= config["window_size"]:  # Swin then shrinks its windows to the map and shifts none of them
        raise ValueError(
            f"`img_size` is {config['img_size']}; it must be larger than `window_size`, {config['window_size']}."
        )
    state_dict = read_state_dict(original_state_dict)
    with torch.device("meta"):
        model = SwinIREstimator(**swinir_arguments(config))
    return load_strictly(model, state_dict, renamed(model, original_key))
