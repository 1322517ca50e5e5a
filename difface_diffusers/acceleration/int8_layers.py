"""Layers that count in 8 bits on a CPU, with weights of as many bits as it counts right. Experimental.

They call private operators of torch, oneDNN's, and so serve the releases that `int8_torch` names.

Without instructions for it, a processor adds two products of bytes in 16 bits, where sums over 32,767 are cut off. Weights of
7 bits keep below that, at the price of a little precision.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex, cast

import torch
from torch import nn

from .int8_torch import require_torch
from .processor import ProcessorError, why_bytes_are_wrong


LARGEST = 255  # of the integers that a layer takes
WEIGHTS_OF_8_BITS, WEIGHTS_OF_7_BITS = 127, 63  # the largest of them
VECTORS_FOR_7_BITS = "AVX512"  # with narrower ones they are hardly faster than float32
TINY = torch.finfo(torch.float32).tiny  # the range of what is always 0
STAYS_HERE = (
    "a network that counts in 8 bits is laid out for this machine and can be neither saved nor copied; do that before"
    " `quantize_int8`, which is to be called again wherever the network is loaded"
)


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

    The tensors are attributes, not buffers: `to` must leave them in single precision. They suit this machine alone, and so
    cannot leave it.

    Raises:
        ImportError: see `require_torch`.
        ProcessorError: see `largest_weight`.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, inputs: Inputs, largest: int | None = None) -> None:
        require_torch()
        super().__init__()
        self.scale = max(inputs.highest - inputs.lowest, TINY) / LARGEST
        self.zero_point = round(-inputs.lowest / self.scale)
        # As tensors, too: what rounds is compiled once for all layers.
        self.rounding = torch.tensor(self.scale), torch.tensor(self.zero_point)

        weight = layer.weight.detach().float()
        channels = len(weight)
        self.weight_scales = weight.flatten(1).abs().amax(1).clamp(min=TINY) / (largest or largest_weight())
        self.weight_zero_points = torch.zeros(channels, dtype=torch.int32)
        self.bias = torch.zeros(channels) if layer.bias is None else layer.bias.detach().float().clone()

    def _round_weight(self, layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
        per_channel = self.weight_scales.view(-1, *[1] * (layer.weight.ndim - 1))
        return (layer.weight.detach().float() / per_channel).round().to(torch.int8)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        raise TypeError(STAYS_HERE)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        raise TypeError(STAYS_HERE)

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
        largest: Integer for the largest weight of a channel; `largest_weight()` unless given.
    """

    def __init__(self, layer: nn.Conv2d, inputs: Inputs, largest: int | None = None) -> None:
        super().__init__(layer, inputs, largest)
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
        largest: Integer for the largest weight of a channel; `largest_weight()` unless given.
    """

    def __init__(self, layer: nn.Linear, inputs: Inputs, largest: int | None = None) -> None:
        super().__init__(layer, inputs, largest)
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


def largest_weight() -> int:
    """Return the largest integer that may stand for a weight on this machine: 127, or 63 where 7 bits are counted right.

    Raises:
        ImportError: see `require_torch`.
        ProcessorError: neither is, or it would be no faster than float32.
    """
    require_torch()
    if counts_exactly(WEIGHTS_OF_8_BITS):
        return WEIGHTS_OF_8_BITS
    if torch.backends.cpu.get_cpu_capability() == VECTORS_FOR_7_BITS and counts_exactly(WEIGHTS_OF_7_BITS):
        return WEIGHTS_OF_7_BITS
    raise ProcessorError(
        f"8 bits would be counted wrong here, or no faster than float32: {why_bytes_are_wrong()}. Leave the networks in"
        " float32, or let another runtime run them (`difface export`, `difface restore --runtime`)."
    )


@functools.cache
def counts_exactly(largest: int) -> bool:
    """Try each kind of layer with all inputs and weights at their largest, for which the answers are known."""
    try:
        return all(
            torch.allclose(
                answer.double(), torch.tensor(expected).double(), rtol=torch.finfo(answer.dtype).eps, atol=0
            )
            for dtype in (torch.float32, torch.bfloat16)
            for answer, expected in _known_answers(largest, dtype)
        )
    except RuntimeError:  # there is no such kernel
        return False


@torch.no_grad()
def _known_answers(largest: int, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, float]]:
    """Yield what layers whose weights are all the largest answer to the largest inputs, and what they should."""
    channels, side = 64, 6
    lowest = -100.0  # of the inputs: their zero point counts, too
    value = LARGEST + lowest
    maps = torch.full((1, channels, side, side), value, dtype=dtype)
    rows = torch.full((side, channels), value, dtype=dtype)
    for kernel in (1, 3):
        convolution = nn.Conv2d(channels, channels, kernel, bias=False)
        nn.init.ones_(convolution.weight)
        yield Int8Conv2d(convolution, Inputs(maps.shape, lowest, value), largest)(maps), value * channels * kernel**2
    linear = nn.Linear(channels, channels, bias=False)
    nn.init.ones_(linear.weight)
    layer = Int8Linear(linear, Inputs(rows.shape, lowest, value), largest)
    yield layer(rows), value * channels
    hidden = layer.count_for(layer, layer.round(rows), "gelu")  # beyond the range, and so cut off
    yield hidden.float(), LARGEST
    yield layer.count(hidden, dtype, added=rows), value * channels + value
