"""The prior's network: diffusers' `UNet2DModel` on patches, with its own number of residual blocks on each level."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  the loader looks this name up in the module
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from diffusers.models.unets.unet_2d_blocks import get_down_block, get_up_block


class DifFaceUNet2DModel(UNet2DModel):
    """A `UNet2DModel` that may work on patches, and whose levels may have their own numbers of residual blocks.

    Args:
        layers_per_block: An integer, or one entry per level from the finest to the coarsest. The official 512 prior needs
            (1, 2, 2, 2, 2, 3, 4).
        patch_size: Side p of the square patches of pixels that are folded into channels before the first convolution, and
            unfolded behind the last one: the network then costs what one without patches does for pictures of a p-th of
            the height and width. `sample_size`, `in_channels` and `out_channels` stay those of the picture.

    All other arguments are those of `UNet2DModel`.

    Raises:
        ValueError: `layers_per_block` has not one entry per level; `patch_size` is below 1, does not fit `sample_size`, or
            comes with blocks that read pictures.
        TypeError: `patch_size` is no integer.
    """

    # Each is met several times, with other widths: what compiles one of them again for every width stays below the eight
    # times at which torch's compiler gives up. Smaller parts, such as residual blocks, come in too many widths.
    _repeated_blocks = ["DownBlock2D", "AttnDownBlock2D", "UNetMidBlock2D", "AttnUpBlock2D", "UpBlock2D"]  # noqa: RUF012  as in diffusers

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
        patch_size: int = 1,
    ) -> None:
        _check_patches(patch_size, sample_size, len(block_out_channels), (*down_block_types, *up_block_types))
        settings = {name: value for name, value in self.config.items() if not name.startswith("_")}
        arguments = {name: value for name, value in settings.items() if name != "patch_size"} | {
            "in_channels": in_channels * patch_size**2,
            "out_channels": out_channels * patch_size**2,
        }
        if isinstance(layers_per_block, int):
            super().__init__(**arguments)
            self.register_to_config(**settings)
            return
        if len(layers_per_block) != len(block_out_channels):
            raise ValueError(
                f"`layers_per_block` has {len(layers_per_block)} entries ({layers_per_block}); it must be an integer or"
                f" one entry per level, {len(block_out_channels)} for `block_out_channels` {block_out_channels}."
            )
        super().__init__(**arguments | {"layers_per_block": 1})
        self.register_to_config(**settings)

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

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Return the answer to a noisy picture, in its own pixels.

        Args:
            sample: The picture, `[B,in_channels,H,W]`, of sides that each level but the last can halve.
            timestep: One for all, or `[B]`.
            class_labels: As in `UNet2DModel`.
            return_dict: `False` returns a tuple.

        Returns:
            `UNet2DOutput` with `sample`, `[B,out_channels,H,W]`.

        Raises:
            ValueError: `sample` is of another shape.
        """
        self._check_sample(sample)
        patches = F.pixel_unshuffle(sample, self.config.patch_size)
        (answer,) = super().forward(patches, timestep, class_labels, return_dict=False)
        answer = F.pixel_shuffle(answer, self.config.patch_size)
        return UNet2DOutput(sample=answer) if return_dict else (answer,)

    def _check_sample(self, sample: torch.Tensor) -> None:
        channels = self.config.in_channels
        multiple = unit_of_sides(self.config.patch_size, len(self.config.block_out_channels))
        if sample.ndim != 4 or sample.shape[1] != channels or any(side % multiple for side in sample.shape[2:]):
            raise ValueError(
                f"`sample` has the shape {tuple(sample.shape)}; it must be [B,{channels},H,W] with H and W multiples of"
                f" {multiple}."
            )


def _check_patches(
    patch_size: int, sample_size: int | tuple[int, int] | None, num_levels: int, block_types: tuple[str, ...]
) -> None:
    if type(patch_size) is not int:
        raise TypeError(f"`patch_size` is {patch_size!r}; it must be an integer.")
    if patch_size < 1:
        raise ValueError(f"`patch_size` is {patch_size}; it must be at least 1.")
    if patch_size == 1:
        return
    multiple = unit_of_sides(patch_size, num_levels)
    sides = [sample_size] if isinstance(sample_size, int) else sample_size or []
    if any(side % multiple for side in sides):
        raise ValueError(
            f"`sample_size` is {sample_size}; with `patch_size` {patch_size} and {num_levels} levels it must be a multiple of"
            f" {multiple}."
        )
    if readers := [name for name in block_types if "Skip" in name]:
        raise ValueError(
            f"`patch_size` is {patch_size}; it must be 1 with {readers[0]}, which reads or makes pictures."
        )


def unit_of_sides(patch_size: int, num_levels: int) -> int:
    """Return what the sides of a picture must be multiples of."""
    return patch_size * 2 ** (num_levels - 1)
