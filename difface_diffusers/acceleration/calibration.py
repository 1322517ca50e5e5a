"""The prior of an exported pipeline in 8 bits: its convolutions count in integers, which OpenVINO runs faster than floats."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..pipelines.pipeline_difface import DifFacePipeline
from ..utils.extras import import_extra
from .runtimes import GRAPH, find_graph


PURPOSE = "Quantization needs"

Call = dict[str, np.ndarray]


class _Calls:
    """Hands recorded calls of the prior to the calibration, one after the other."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls: Iterator[Call] = iter(calls)

    def get_next(self) -> Call | None:
        return next(self._calls, None)


def quantize_graph(pipe: DifFacePipeline, folder: str | Path, faces: list[Image.Image] | torch.Tensor) -> None:
    """Replace `unet/model.onnx`, which `export_onnx` wrote, by a graph whose convolutions take and weigh 8-bit integers.

    What they take is given a range and a zero point by restorations of `faces` with the pipeline's defaults, and every output
    channel of the weights a scale of its own. Weights have 7 bits: with 8, OpenVINO cuts off sums on processors without
    instructions for bytes, and the graph may travel. What they answer stays in float32, as does all else. Needs the extra
    `runtimes` (onnx, onnxruntime).

    Args:
        pipe: The pipeline whose graph it is.
        folder: Where the graph is.
        faces: Aligned, and as degraded as those that will be restored; a dozen will do.

    Raises:
        FileNotFoundError: There is no graph.
    """
    quantization = import_extra("onnxruntime.quantization", "runtimes", PURPOSE)
    preparation = import_extra("onnxruntime.quantization.shape_inference", "runtimes", PURPOSE)
    graph = find_graph(folder, "unet")
    with tempfile.TemporaryDirectory(dir=graph.parent) as temporary:
        prepared, quantized = Path(temporary) / "prepared.onnx", Path(temporary) / GRAPH
        preparation.quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            _Calls(record_calls(pipe, faces)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,  # OpenVINO errs by far with signed ones
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,  # of the weights
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        quantized.replace(graph)


def record_calls(pipe: DifFacePipeline, faces: list[Image.Image] | torch.Tensor) -> list[Call]:
    """Restore faces one by one with the pipeline's defaults; return what the prior was called with, by the graph's names."""
    calls: list[Call] = []

    def record(_: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        sample, timestep = arguments
        calls.append({"sample": sample.float().numpy(), "timestep": timestep.float().expand(len(sample)).numpy()})

    handle = pipe.unet.register_forward_pre_hook(record)
    try:
        restore_one_by_one(pipe, faces)
    finally:
        handle.remove()
    return calls


def restore_one_by_one(pipe: DifFacePipeline, faces: list[Image.Image] | torch.Tensor) -> None:
    """Restore faces with the pipeline's defaults and noise of their own, for what its networks show meanwhile."""
    for index, face in enumerate(faces):
        pipe(face, generator=torch.Generator().manual_seed(index), output_type="latent")
