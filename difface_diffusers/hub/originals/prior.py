"""The original diffusion prior to diffusers' `UNet2DModel`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel

from ...models.unet import DifFaceUNet2DModel
from .checkpoints import Entry, load_strictly, read_config, read_state_dict


NORM_GROUPS = 32

REQUIRED = (
    "image_size",
    "in_channels",
    "model_channels",
    "out_channels",
    "num_res_blocks",
    "attention_resolutions",
    "channel_mult",
    "num_head_channels",
    "use_scale_shift_norm",
)
DEFAULTS = {
    "dropout": 0,
    "use_fp16": False,
    "use_checkpoint": False,
    "num_heads": 1,  # of no effect beside `num_head_channels`, like the next
    "num_heads_upsample": -1,
}
ONLY = {
    "use_scale_shift_norm": True,
    "conv_resample": True,
    "dims": 2,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "num_classes": None,
}

MODULES_IN_BLOCK = {  # ours, the original's, inside a residual block or an attention
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "group_norm": "norm",
    "to_q": "qkv",
    "to_k": "qkv",
    "to_v": "qkv",
    "to_out.0": "proj_out",
}


def block_channels(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of each level, the finest first."""
    return tuple(int(multiplier * config["model_channels"]) for multiplier in config["channel_mult"])


def blocks_per_level(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Residual blocks of each level on the way down, the finest first."""
    num_levels, blocks = len(config["channel_mult"]), config["num_res_blocks"]
    return num_levels * (blocks,) if isinstance(blocks, int) else tuple(blocks)


def levels_with_attention(config: Mapping[str, Any]) -> tuple[bool, ...]:
    """Whether each level has attention: the original lists sides of the feature map, not down-sampling factors."""
    sides = [config["image_size"] // 2**level for level in range(len(config["channel_mult"]))]
    return tuple(side in config["attention_resolutions"] for side in sides)


def check_prior_config(config: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for what the original would not build or diffusers cannot express."""
    channels, attention = block_channels(config), levels_with_attention(config)
    if len(blocks_per_level(config)) != len(channels) or min(blocks_per_level(config), default=0) < 1:
        raise ValueError(
            f"`num_res_blocks` is {config['num_res_blocks']}; it must be an integer or one per entry of `channel_mult`,"
            f" {len(channels)}, and at least 1 throughout."
        )
    if any(width < 1 or width % NORM_GROUPS for width in channels):
        raise ValueError(
            f"`channel_mult` times `model_channels` is {channels}; each must be a multiple of {NORM_GROUPS}, the groups"
            " of every group normalization."
        )
    if config["model_channels"] % 2 or channels[0] % config["model_channels"]:
        raise ValueError(
            f"`model_channels` is {config['model_channels']}, the width of the time embedding; it must be even and"
            f" divide the channels of the first level, {channels[0]}, of which diffusers makes that width."
        )
    attended = {channels[-1]} | {width for width, has in zip(channels, attention, strict=True) if has}
    head = config["num_head_channels"]
    if head < 1 or any(width % head for width in attended):
        raise ValueError(
            f"`num_head_channels` is {head}; it must be a positive divisor of the channels of the middle block and of"
            f" every level with attention, {sorted(attended)}."
        )


def unet_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `UNet2DModel`, or of `DifFaceUNet2DModel` where `layers_per_block` is a tuple."""
    channels, attention, blocks = block_channels(config), levels_with_attention(config), blocks_per_level(config)
    time_width = config["model_channels"]
    return {
        "sample_size": config["image_size"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "time_embedding_dim": None if time_width == channels[0] else 4 * time_width,
        "down_block_types": tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in attention),
        "up_block_types": tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
        "block_out_channels": channels,
        "layers_per_block": blocks[0] if len(set(blocks)) == 1 else blocks,
        "dropout": config["dropout"],
        "attention_head_dim": config["num_head_channels"],
        "norm_num_groups": NORM_GROUPS,
        "attn_norm_num_groups": NORM_GROUPS,  # else diffusers leaves this norm out beside a scale-shift norm
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "scale_shift",
    }


def original_blocks(config: Mapping[str, Any]) -> dict[str, str]:
    """Original names of the blocks, and of the modules outside blocks, by their names in diffusers."""
    blocks, attention = blocks_per_level(config), levels_with_attention(config)
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    entry = 1
    for level, num_blocks in enumerate(blocks):
        for block in range(num_blocks):
            names[f"down_blocks.{level}.resnets.{block}"] = f"input_blocks.{entry}.0"
            names[f"down_blocks.{level}.attentions.{block}"] = f"input_blocks.{entry}.1"
            entry += 1
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{entry}.0.op"
        entry += 1
    entry = 0
    for up, (num_blocks, has_attention) in enumerate(zip(reversed(blocks), reversed(attention), strict=True)):
        for block in range(num_blocks + 1):
            names[f"up_blocks.{up}.resnets.{block}"] = f"output_blocks.{entry}.0"
            names[f"up_blocks.{up}.attentions.{block}"] = f"output_blocks.{entry}.1"
            entry += 1
        names[f"up_blocks.{up}.upsamplers.0.conv"] = f"output_blocks.{entry - 1}.{2 if has_attention else 1}.conv"
    return names


def original_key(key: str, blocks: Mapping[str, str]) -> str:
    """Name in the original checkpoint of the tensor, or of the fused tensor, that diffusers calls `key`."""
    module, _, leaf = key.rpartition(".")
    if module in blocks:
        return f"{blocks[module]}.{leaf}"
    inside = next(name for name in MODULES_IN_BLOCK if module.endswith(f".{name}"))
    return f"{blocks[module.removesuffix(f'.{inside}')]}.{MODULES_IN_BLOCK[inside]}.{leaf}"


def split_qkv(tensor: torch.Tensor, head_channels: int) -> tuple[torch.Tensor, ...]:
    """Split a fused weight `[3C,C,1]` or bias `[3C]` to those of query, key and value, `[C,C]` or `[C]` each.

    The rows run over heads first, then over query, key and value, then over the channels of a head.
    """
    rows = tensor.squeeze(-1).unflatten(0, (-1, 3, head_channels))
    return tuple(part.flatten(0, 1) for part in rows.unbind(1))


def widen_time_projection(weight: torch.Tensor, width: int) -> tuple[torch.Tensor]:
    """Let a weight `[D,w]` for a sinusoidal embedding of width w read one of `width`, a multiple m of w.

    Cosines first, then sines. The frequencies of the wider embedding lie m times as dense, so every m-th column has a
    frequency of the narrow one and the others get weight zero.
    """
    spread = weight.unflatten(1, (2, -1, 1))
    return (F.pad(spread, (0, width // weight.shape[1] - 1)).flatten(1),)


def checkpoint_entries(model: UNet2DModel, config: Mapping[str, Any]) -> dict[str, Entry]:
    """What an original checkpoint consists of that `model` can be loaded from."""
    blocks = original_blocks(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    targets: dict[str, tuple[str, ...]] = {}
    for key in shapes:
        name = original_key(key, blocks)
        targets[name] = (*targets.get(name, ()), key)

    entries = {}
    for name, keys in targets.items():
        shape = shapes[keys[0]]
        if ".qkv." in name:
            kernel = (1,) if name.endswith("weight") else ()
            split = partial(split_qkv, head_channels=config["num_head_channels"])
            entries[name] = Entry((3 * shape[0], *shape[1:], *kernel), keys, split)
        elif name.endswith(".proj_out.weight"):
            entries[name] = Entry((*shape, 1), keys, lambda weight: (weight.squeeze(-1),))
        elif name == "time_embed.0.weight":
            widen = partial(widen_time_projection, width=shape[1])
            entries[name] = Entry((shape[0], config["model_channels"]), keys, widen)
        else:
            entries[name] = Entry(shape, keys)
    return entries


def convert_prior(original_state_dict: Mapping[str, torch.Tensor], original_config: Mapping[str, Any]) -> UNet2DModel:
    """Convert an original diffusion prior.

    Args:
        original_state_dict: its checkpoint, with or without an outer `state_dict` and a `module.` prefix.
        original_config: its arguments in the original's names.

    Returns:
        In eval mode, with its own copy of the weights in float32: a plain `UNet2DModel` if every level has as many
        residual blocks, else a `DifFaceUNet2DModel`.
    """
    config = read_config(original_config, REQUIRED, DEFAULTS, ONLY)
    check_prior_config(config)
    state_dict = read_state_dict(original_state_dict)
    arguments = unet_arguments(config)
    with torch.device("meta"):
        unet_class = UNet2DModel if isinstance(arguments["layers_per_block"], int) else DifFaceUNet2DModel
        model = unet_class(**arguments)
    return load_strictly(model, state_dict, checkpoint_entries(model, config))
