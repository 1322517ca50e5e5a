"""The networks of a pipeline in 8 bits on a CPU: their convolutions and linear layers count in integers, by torch alone."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.ao.quantization.fx._decomposed  # defines quantize_per_tensor, which a compiler fuses with what it follows
from PIL import Image
from torch import nn

from .pipeline_difface import DifFacePipeline
from .quantisation import restore_one_by_one


LOWEST_CHANNELS = 16  # layers that take or make pixels have fewer; they cost little and keep their precision
LARGEST = 255  # of the integers that a layer takes
LARGEST_WEIGHT = 127
TINY = torch.finfo(torch.float32).tiny  # the range of what is always 0

Layer = nn.Conv2d | nn.Linear


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


class Int8Layer(nn.Module):
    """Stands for a convolution or a linear layer: takes floats, counts in 8 bits, and answers in the floats' precision.

    What it takes is rounded within one range, every output channel of the weights by a scale of its own. A linear layer is
    run as the pointwise convolution that it is.

    Args:
        layer: Its weights are copied.
        inputs: What lies outside of their range is clipped; the weights are laid out for their shape, and serve all others.
    """

    def __init__(self, layer: Layer, inputs: Inputs) -> None:
        super().__init__()
        self.is_linear = isinstance(layer, nn.Linear)
        self.scale = max(inputs.highest - inputs.lowest, TINY) / LARGEST
        self.zero_point = round(-inputs.lowest / self.scale)
        self.stride, self.padding, self.dilation, self.groups = _geometry(layer)

        weight, shape = layer.weight.detach().float(), list(inputs.shape)
        if self.is_linear:
            weight, shape = weight[:, :, None, None], [1, shape[-1], 1, math.prod(shape[:-1])]
        channels = len(weight)
        largest = weight.abs().amax((1, 2, 3)).clamp(min=TINY)
        # Attributes, not buffers: `to` must leave them in single precision.
        self.weight_scales = largest / LARGEST_WEIGHT
        self.weight_zero_points = torch.zeros(channels, dtype=torch.int32)
        self.bias = torch.zeros(channels) if layer.bias is None else layer.bias.detach().float().clone()
        self.weight = torch.ops.onednn.qconv_prepack(
            (weight / self.weight_scales.view(-1, 1, 1, 1)).round().to(torch.int8),
            self.weight_scales,
            self.scale,
            self.zero_point,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            shape,
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the layer would, `[B,C,H,W]` from the like, or `[...,C]` if it is linear."""
        integers = torch.ops.quantized_decomposed.quantize_per_tensor(
            input, self.scale, self.zero_point, 0, LARGEST, torch.uint8
        )
        if not self.is_linear:
            return self._convolve(integers, input.dtype)
        *positions, channels = integers.shape
        pixels = integers.reshape(1, 1, -1, channels).permute(0, 3, 1, 2)
        return self._convolve(pixels, input.dtype).permute(0, 2, 3, 1).reshape(*positions, -1)

    def _convolve(self, integers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            integers,
            self.scale,
            self.zero_point,
            self.weight,
            self.weight_scales,
            self.weight_zero_points,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            1.0,  # scale and zero point of the output, which stays a float
            0,
            dtype,
            "none",
            [],
            None,
        )


class ChannelsLastGroupNorm(nn.GroupNorm):
    """A group norm by the mean and the mean square of every channel, which a compiler makes short work of.

    With the channels innermost, that is a reduction along rows; torch's own gathers strided groups.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalised input, `[B,C,...]`."""
        values = input.float()
        batch, channels, *shape = values.shape
        extent = tuple(range(2, values.ndim))
        groups = batch, self.num_groups, -1
        mean = values.mean(extent).view(groups).mean(-1, keepdim=True)
        square = values.square().mean(extent).view(groups).mean(-1, keepdim=True)
        inverse = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        size = channels // self.num_groups
        factor = inverse.expand(-1, -1, size).reshape(batch, channels) * self.weight.float()
        offset = self.bias.float() - mean.expand(-1, -1, size).reshape(batch, channels) * factor
        broadcast = batch, channels, *(1 for _ in shape)
        return (values * factor.view(broadcast) + offset.view(broadcast)).to(input.dtype)


def count_in_int8(
    pipe: DifFacePipeline, faces: list[Image.Image] | torch.Tensor, dtype: torch.dtype = torch.float32
) -> None:
    """Let both networks of a pipeline count in 8 bits on the CPU; compile them afterwards, or nothing is gained.

        count_in_int8(pipe, faces, torch.bfloat16)
        pipe.unet.compile()
        pipe.estimator.compile()

    The convolutions and linear layers take integers within the ranges that restorations of `faces` with the pipeline's
    defaults show. Fast on processors with instructions for 8 bits (AVX-512 VNNI, AMX).

    Args:
        pipe: Its networks, in float32 on the CPU, are changed; it cannot be saved from then on.
        faces: Aligned, and as spoilt as those that will be restored; a dozen will do.
        dtype: Of all else that the networks do: `torch.float32`, or `torch.bfloat16`, which halves the traffic of memory.

    Raises:
        TypeError: The pipeline fills holes.
        ValueError: The networks are elsewhere, or not in float32; no faces.
    """
    if pipe.fills_holes:
        raise TypeError("`pipe` fills holes; only a DifFacePipeline can count in 8 bits")
    if pipe.device.type != "cpu" or pipe.dtype != torch.float32:
        raise ValueError(f"`pipe` is on {pipe.device} in {pipe.dtype}; it must be on the CPU in torch.float32.")
    if not len(faces):
        raise ValueError("`faces` is empty; some faces must show the ranges.")
    with watch_inputs(pipe.unet) as of_unet, watch_inputs(pipe.estimator) as of_estimator:
        restore_one_by_one(pipe, faces)
    for network, inputs in ((pipe.unet, of_unet), (pipe.estimator, of_estimator)):
        network.to(memory_format=torch.channels_last)
        layers = {name: Int8Layer(cast(Layer, network.get_submodule(name)), inputs[name]) for name in inputs}
        nn.Module.to(network, dtype)  # the networks' own warns of nothing
        for name, layer in layers.items():
            network.set_submodule(name, layer)
        for name, norm in list(network.named_modules()):
            if type(norm) is nn.GroupNorm:
                network.set_submodule(name, _copy_norm(norm))


@contextmanager
def watch_inputs(network: nn.Module) -> Generator[dict[str, Inputs]]:
    """Collect what each larger layer takes, by its name, whenever the network is called within the context.

    Layers of fewer than 16 channels, and those that act on one vector a face, are left out.
    """
    inputs: dict[str, Inputs] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def widen(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            (values,) = arguments
            if values.ndim > 2:
                seen = inputs.setdefault(name, Inputs(values.shape))
                seen.lowest = min(seen.lowest, values.min().item())
                seen.highest = max(seen.highest, values.max().item())

        return widen

    handles = [
        layer.register_forward_pre_hook(watch(name))
        for name, layer in network.named_modules()
        if isinstance(layer, Layer) and min(layer.weight.shape[:2]) >= LOWEST_CHANNELS
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _geometry(layer: Layer) -> tuple[list[int], list[int], list[int], int]:
    if isinstance(layer, nn.Linear):
        return [1, 1], [0, 0], [1, 1], 1
    return list(layer.stride), list(cast(tuple[int, int], layer.padding)), list(layer.dilation), layer.groups


def _copy_norm(norm: nn.GroupNorm) -> ChannelsLastGroupNorm:
    copy = ChannelsLastGroupNorm(norm.num_groups, norm.num_channels, norm.eps)
    copy.weight, copy.bias = norm.weight, norm.bias
    return copy
