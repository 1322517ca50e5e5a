"""The networks of a pipeline in 8 bits on a CPU: their convolutions and linear layers count in integers, by torch alone.

Experimental: made for the releases of torch that `int8_torch` names, whose private operators it calls.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..models.swinir import SwinBlock, SwinIREstimator
from ..pipelines.pipeline_difface import DifFacePipeline
from .calibration import restore_one_by_one
from .int8_layers import Inputs, Int8Conv2d, Int8Linear, largest_weight
from .int8_swinir import Int8SwinBlock
from .layouts import to_channels_last


LOWEST_CHANNELS = 16  # layers that take or make pixels have fewer; they cost little and keep their precision
PIXEL_LAYERS = ("conv_in", "conv_out")  # of a prior, which has more channels there if it works on patches


def quantize_int8(
    pipe: DifFacePipeline, faces: list[Image.Image] | torch.Tensor, dtype: torch.dtype = torch.float32
) -> None:
    """Let both networks of a pipeline count in 8 bits on the CPU; compile them afterwards, or nothing is gained.

    Experimental: it calls private operators of torch, and refuses releases of torch that it was not tried with.

        quantize_int8(pipe, faces, torch.bfloat16)
        pipe.unet.compile()
        pipe.estimator.compile()

    The convolutions and linear layers take integers within the ranges that restorations of `faces` with the pipeline's
    defaults show. Fast on processors with instructions for bytes (AVX-512 VNNI, AVX-VNNI, AMX); on others with AVX-512 weights
    get 7 bits, which is right and still fast there.

    Args:
        pipe: Its networks, in float32 on the CPU, are changed; they can be neither saved nor copied from then on.
        faces: Aligned, and as degraded as those that will be restored; a dozen will do.
        dtype: Of all else that the networks do: `torch.float32`, or `torch.bfloat16`, which halves the traffic of memory.

    Raises:
        TypeError: The pipeline fills holes.
        ValueError: The networks are elsewhere, or not in float32; no faces.
        ImportError: It was not tried with this release of torch.
        ProcessorError: This processor would count wrong, or no faster than in float32.
    """
    if pipe.is_inpainting:
        raise TypeError("`pipe` fills holes; only a DifFacePipeline can count in 8 bits")
    if pipe.device.type != "cpu" or pipe.dtype != torch.float32:
        raise ValueError(f"`pipe` is on {pipe.device} in {pipe.dtype}; it must be on the CPU in torch.float32.")
    if not len(faces):
        raise ValueError("`faces` is empty; some faces must show the ranges.")
    largest_weight()  # or a refusal of torch or of the processor, before anything is done
    # Of a SwinIR all layers: where a compiler sees one plain convolution, it lays out the maps, `[B,H,W,C]`, as if they were
    # `[B,C,H,W]`.
    lowest = 1 if isinstance(pipe.estimator, SwinIREstimator) else LOWEST_CHANNELS
    with (
        watch_inputs(pipe.unet, LOWEST_CHANNELS, PIXEL_LAYERS) as of_unet,
        watch_inputs(pipe.estimator, lowest) as of_estimator,
    ):
        restore_one_by_one(pipe, faces)
    for network, inputs in ((pipe.unet, of_unet), (pipe.estimator, of_estimator)):
        to_channels_last(network)
        replacements = _make_replacements(network, inputs)
        nn.Module.to(network, dtype)  # the networks' own warns of nothing
        for name, module in replacements.items():
            network.set_submodule(name, module)


def _make_replacements(network: nn.Module, inputs: dict[str, Inputs]) -> dict[str, nn.Module]:
    replacements: dict[str, nn.Module] = {}
    remaining = dict(inputs)
    for name, block in network.named_modules():
        if isinstance(block, SwinBlock):
            of_block = {layer: remaining.pop(f"{name}.{layer}") for layer in Int8SwinBlock.LAYERS}
            replacements[name] = Int8SwinBlock(block, of_block)
    for name, seen in remaining.items():
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear):
            replacements[name] = Int8Linear(layer, seen)
        elif isinstance(layer, nn.Conv2d):
            replacements[name] = Int8Conv2d(layer, seen)
    return replacements


@contextmanager
def watch_inputs(
    network: nn.Module, lowest_channels: int, left_out: Collection[str] = ()
) -> Generator[dict[str, Inputs]]:
    """Collect what each layer takes, by its name, whenever the network is called within the context.

    Layers that take or make fewer than `lowest_channels`, those that act on one vector a face, and those named by `left_out`
    are not watched.
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
        if isinstance(layer, nn.Conv2d | nn.Linear)
        and min(layer.weight.shape[:2]) >= lowest_channels
        and name not in left_out
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
