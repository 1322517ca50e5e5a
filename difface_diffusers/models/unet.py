"""The prior's network: diffusers' `UNet2DModel` with its own number of residual blocks on each level."""

from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  the loader looks this name up in the module
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_blocks import get_down_block, get_up_block


class DifFaceUNet2DModel(UNet2DModel):
    """A `UNet2DModel` whose `layers_per_block` may be a tuple, one entry per level from the finest to the coarsest.

    The official 512 prior needs (1, 2, 2, 2, 2, 3, 4). All other arguments, and `forward`, are those of `UNet2DModel`.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 3,
        out_channels: int = 3,
        center_input_sample: bool = False,
        time_embedding_type: str = "positional",
        time_embedding_dim: int | None = None,
        freq_shift: int = 0,
        flip_sin_to_cos: bool = True,
        down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        mid_block_type: str | None = "UNetMidBlock2D",
        up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        block_out_channels: tuple[int, ...] = (224, 448, 672, 896),
        layers_per_block: int | tuple[int, ...] = 2,
        mid_block_scale_factor: float = 1,
        downsample_padding: int = 1,
        downsample_type: str = "conv",
        upsample_type: str = "conv",
        dropout: float = 0.0,
        act_fn: str = "silu",
        attention_head_dim: int | None = 8,
        norm_num_groups: int = 32,
        attn_norm_num_groups: int | None = None,
        norm_eps: float = 1e-5,
        resnet_time_scale_shift: str = "default",
        add_attention: bool = True,
        class_embed_type: str | None = None,
        num_class_embeds: int | None = None,
        num_train_timesteps: int | None = None,
    ) -> None:
        arguments = {name: value for name, value in self.config.items() if not name.startswith("_")}
        if isinstance(layers_per_block, int):
            super().__init__(**arguments)
            return
        if len(layers_per_block) != len(block_out_channels):
            raise ValueError(
                f"`layers_per_block` has {len(layers_per_block)} entries ({layers_per_block}); it must be an integer or"
                f" one entry per level, {len(block_out_channels)} for `block_out_channels` {block_out_channels}."
            )
        super().__init__(**arguments | {"layers_per_block": 1})
        self.register_to_config(layers_per_block=layers_per_block)

        last = len(block_out_channels) - 1
        for level, num_layers in enumerate(layers_per_block):
            up = last - level
            out_channels = block_out_channels[level]
            common: dict[str, Any] = {
                "in_channels": block_out_channels[max(level - 1, 0)],
                "out_channels": out_channels,
                "temb_channels": time_embedding_dim or block_out_channels[0] * 4,
                "resnet_eps": norm_eps,
                "resnet_act_fn": act_fn,
                "resnet_groups": norm_num_groups,
                "attention_head_dim": attention_head_dim if attention_head_dim is not None else out_channels,
                "resnet_time_scale_shift": resnet_time_scale_shift,
                "dropout": dropout,
            }
            self.down_blocks[level] = get_down_block(
                down_block_types[level],
                num_layers=num_layers,
                add_downsample=level != last,
                downsample_padding=downsample_padding,
                downsample_type=downsample_type,
                **common,
            )
            self.up_blocks[up] = get_up_block(
                up_block_types[up],
                num_layers=num_layers + 1,
                prev_output_channel=block_out_channels[min(level + 1, last)],
                add_upsample=level != 0,
                upsample_type=upsample_type,
                **common,
            )
