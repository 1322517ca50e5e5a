"""Layers that count in 8 bits on a CPU."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.ao.quantization.fx._decomposed  # defines quantize_per_tensor, which a compiler fuses with what it follows
from torch import nn


LARGEST = 255  # of the integers that a layer takes
LARGEST_WEIGHT = 127
TINY = torch.finfo(torch.float32).tiny  # the range of what is always 0


@dataclass
class Inputs:
    """What a layer took.

    Attributes:
        shape: Of the first of them.
        lowest: Of all values; at most 0.
        highest: Of all values; at least 0.
    """

    shape: torch.Size
    lowest: float = 0.0
    highest: float = 0.0


class _Int8Layer(nn.Module):
    """What both kinds of layers share: one range for what they take, one scale per output channel of their weights.

    The tensors are attributes, not buffers: `to` must leave them in single precision.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, inputs: Inputs) -> None:
        super().__init__()
        self.scale = max(inputs.highest - inputs.lowest, TINY) / LARGEST
        self.zero_point = round(-inputs.lowest / self.scale)
        # As tensors, too: what rounds is compiled once for all layers.
        self.rounding = torch.tensor(self.scale), torch.tensor(self.zero_point)

        weight = layer.weight.detach().float()
        channels = len(weight)
        self.weight_scales = weight.flatten(1).abs().amax(1).clamp(min=TINY) / LARGEST_WEIGHT
        self.weight_zero_points = torch.zeros(channels, dtype=torch.int32)
        self.bias = torch.zeros(channels) if layer.bias is None else layer.bias.detach().float().clone()

    def _round_weight(self, layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
        per_channel = self.weight_scales.view(-1, *[1] * (layer.weight.ndim - 1))
        return (layer.weight.detach().float() / per_channel).round().to(torch.int8)

    def round(self, values: torch.Tensor) -> torch.Tensor:
        """Return floats of any shape as the integers that `count` takes, uint8."""
        return torch.ops.quantized_decomposed.quantize_per_tensor.tensor(
            values, *self.rounding, 0, LARGEST, torch.uint8
        )


class Int8Conv2d(_Int8Layer):
    """Stands for a convolution: takes floats, counts in 8 bits, and answers in the floats' precision.

    Args:
        layer: Its weights are copied.
        inputs: What lies outside of their range is clipped; the weights are laid out for their shape, and serve all others.
    """

    def __init__(self, layer: nn.Conv2d, inputs: Inputs) -> None:
        super().__init__(layer, inputs)
        self.geometry = (
            list(layer.stride),
            list(cast(tuple[int, int], layer.padding)),
            list(layer.dilation),
            layer.groups,
        )
        self.weight = torch.ops.onednn.qconv_prepack(
            self._round_weight(layer),
            self.weight_scales,
            self.scale,
            self.zero_point,
            *self.geometry,
            list(inputs.shape),
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the convolution would, `[B,C,H,W]` from the like."""
        return torch.ops.onednn.qconv2d_pointwise(
            self.round(input),
            self.scale,
            self.zero_point,
            self.weight,
            self.weight_scales,
            self.weight_zero_points,
            self.bias,
            *self.geometry,
            1.0,  # scale and zero point of the output, which stays a float
            0,
            input.dtype,
            "none",
            [],
            None,
        )


class Int8Linear(_Int8Layer):
    """Stands for a linear layer: takes floats, counts in 8 bits, and answers in the floats' precision.

    `round` and `count` are its two halves, for those who rearrange the integers between them, or fuse what follows.

    Args:
        layer: Its weights are copied.
        inputs: What lies outside of their range is clipped; the weights are laid out for their shape, and serve all others.
    """

    def __init__(self, layer: nn.Linear, inputs: Inputs) -> None:
        super().__init__(layer, inputs)
        rows, channels = math.prod(inputs.shape[:-1]), inputs.shape[-1]
        self.weight = torch.ops.onednn.qlinear_prepack(self._round_weight(layer), [rows, channels])

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the layer would, `[...,C]` from the like."""
        return self.count(self.round(input), input.dtype)

    def count(
        self, integers: torch.Tensor, dtype: torch.dtype, activation: str = "none", added: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the answer to rounded values.

        Args:
            integers: What `round` returned, in any order of the rows, `[...,C]`.
            dtype: Of the answer.
            activation: That follows, `"none"` or `"gelu"`.
            added: To the answer, of its shape.
        """
        return _linear(integers, *self._operands(), 1.0, 0, dtype, activation, added)

    def count_for(self, following: "Int8Linear", integers: torch.Tensor, activation: str) -> torch.Tensor:
        """Return the answer, once `activation` has followed, as the integers that another layer counts."""
        return _linear(
            integers, *self._operands(), following.scale, following.zero_point, torch.uint8, activation, None
        )

    def _operands(self) -> tuple[float, int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.scale, self.zero_point, self.weight, self.weight_scales, self.weight_zero_points, self.bias


# The compiler lowers oneDNN's linear layer only if the weights are constants of the graph; of this one it knows nothing.
LINEAR = "difface_diffusers::linear_int8"
torch.library.define(
    LINEAR,
    "(Tensor integers, float scale, int zero_point, Tensor weight, Tensor weight_scales, Tensor weight_zero_points, "
    "Tensor bias, float output_scale, int output_zero_point, ScalarType dtype, str activation, Tensor? added) -> Tensor",
)
_linear = torch.ops.difface_diffusers.linear_int8.default


@torch.library.impl(LINEAR, "default")
def _count_linear(
    integers: torch.Tensor,
    scale: float,
    zero_point: int,
    weight: torch.Tensor,
    weight_scales: torch.Tensor,
    weight_zero_points: torch.Tensor,
    bias: torch.Tensor,
    output_scale: float,
    output_zero_point: int,
    dtype: torch.dtype,
    activation: str,
    added: torch.Tensor | None,
) -> torch.Tensor:
    layer = integers, scale, zero_point, weight, weight_scales, weight_zero_points
    output = output_scale, output_zero_point, dtype
    if added is None:
        return torch.ops.onednn.qlinear_pointwise(*layer, bias, *output, activation, [], "none")
    return torch.ops.onednn.qlinear_pointwise.binary(
        *layer, added, bias, *output, 1.0, 0, "add", 1.0, activation, [], "none"
    )


@torch.library.register_fake(LINEAR)
def _shape_of_linear(
    integers: torch.Tensor, *operands: float | torch.Tensor | torch.dtype | str | None
) -> torch.Tensor:
    bias, dtype = cast(torch.Tensor, operands[5]), cast(torch.dtype, operands[8])
    return integers.new_empty((*integers.shape[:-1], len(bias)), dtype=dtype)
