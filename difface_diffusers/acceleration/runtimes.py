"""Other runtimes for a CPU: the two networks of a pipeline as ONNX graphs, run by ONNX Runtime or by OpenVINO.

`export_onnx` writes the graphs into a pipeline's folder, beside the weights, and `use_runtime` lets the loaded pipeline run
them. Everything round the networks, the sampling too, stays what it is.
"""

import copy
import logging
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..pipelines.pipeline_difface import DifFacePipeline
from ..utils.extras import import_extra
from .int8_layers import WEIGHTS_OF_7_BITS, WEIGHTS_OF_8_BITS, counts_exactly
from .processor import ProcessorError, why_bytes_are_wrong


RUNTIMES = ("onnxruntime", "openvino")
GRAPH = "model.onnx"  # in the folder of its component
EXAMPLE_BATCH = 2  # the exporter would take 1 for a constant

Run = Callable[[list[np.ndarray]], np.ndarray]


class NoisePrediction(NamedTuple):
    """What `UNet2DModel` answers with."""

    sample: torch.Tensor


class GraphNetwork:
    """Stands for a network of a pipeline, which another runtime runs: float32 in and out, on the CPU.

    Args:
        run: Takes the arrays of one call, returns its answer.
        config: That of the network.
    """

    dtype = torch.float32

    def __init__(self, run: Run, config: Any) -> None:
        self.run = run
        self.config = config


class GraphEstimator(GraphNetwork):
    """Stands for an estimator."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the estimate, `[B,3,S,S]` in [0,1]."""
        return torch.from_numpy(self.run([image.numpy()]))

    __call__ = forward


class GraphUNet(GraphNetwork):
    """Stands for a prior."""

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor) -> NoisePrediction:
        """Return epsilon and, if the network learned it, the variance, `[B,3 or 6,S,S]`."""
        timesteps = timestep.float().expand(len(sample))
        return NoisePrediction(torch.from_numpy(self.run([sample.numpy(), timesteps.numpy()])))


class _Answer(torch.nn.Module):
    """A prior as a function of tensors, for the exporter."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.unet(sample, timestep, return_dict=False)[0]


def export_onnx(pipe: DifFacePipeline, folder: str | Path) -> None:
    """Write the networks as ONNX graphs: `unet/model.onnx` and `estimator/model.onnx`.

    They take any number of faces of the model's size, in float32, whatever the precision of the pipeline's weights. Needs
    the extra `runtimes` (onnx, onnxscript).

    Args:
        pipe: A pipeline that restores; it is left as it was.
        folder: Where the pipeline is saved, or will be.

    Raises:
        TypeError: The pipeline fills holes.
    """
    if pipe.is_inpainting:
        raise TypeError("`pipe` fills holes; only a DifFacePipeline can be exported")
    import_extra("onnxscript", "runtimes", "Export needs")
    height, width = pipe.model_size
    faces = torch.rand(EXAMPLE_BATCH, 3, height, width)
    timesteps = torch.full((EXAMPLE_BATCH,), 10.0)
    batch = torch.export.Dim("batch")
    _export(_Answer(pipe.unet), {"sample": faces, "timestep": timesteps}, batch, Path(folder) / "unet" / GRAPH)
    _export(pipe.estimator, {"image": faces}, batch, Path(folder) / "estimator" / GRAPH)


def use_runtime(pipe: DifFacePipeline, folder: str | Path, runtime: str, dtype: torch.dtype = torch.float32) -> None:
    """Let a pipeline run its networks by another runtime, on as many threads as torch would take.

    Args:
        pipe: Its `unet` and `estimator` are replaced; it stays on the CPU from then on and cannot be saved.
        folder: Holds the graphs that `export_onnx` wrote for it.
        runtime: "onnxruntime" or "openvino"; needs the extra `runtimes`.
        dtype: Of the arithmetic: `torch.float32`, or with OpenVINO `torch.bfloat16`, which is fast on processors with
            instructions for it.

    Raises:
        ValueError: Unknown runtime, or a dtype that it does not have.
        FileNotFoundError: There is no graph.
        ProcessorError: The graph has weights of 8 bits, as the first release wrote them, which OpenVINO counts wrong here.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"`runtime` is {runtime!r}; it must be one of {', '.join(RUNTIMES)}.")
    accepted = (torch.float32, torch.bfloat16) if runtime == "openvino" else (torch.float32,)
    if dtype not in accepted:
        raise ValueError(f"`dtype` is {dtype}; {runtime} takes {' or '.join(map(str, accepted))}.")
    graphs = [find_graph(folder, component) for component in ("unet", "estimator")]
    unet, estimator = (
        _load_openvino(graph, dtype) if runtime == "openvino" else _load_onnxruntime(graph) for graph in graphs
    )
    pipe.unet, pipe.estimator = GraphUNet(unet, pipe.unet.config), GraphEstimator(estimator, pipe.estimator.config)


def find_graph(folder: str | Path, component: str) -> Path:
    """Return the graph that `export_onnx` wrote of a component; raise a `FileNotFoundError` if there is none."""
    graph = Path(folder) / component / GRAPH
    if not graph.is_file():
        raise FileNotFoundError(f"`folder` is {folder}, which has no {component}/{GRAPH}; export it first.")
    return graph


def _export(network: torch.nn.Module, inputs: dict[str, torch.Tensor], batch: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quietly(), tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        program = torch.onnx.export(
            copy.deepcopy(network).float().eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["answer"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            verbose=False,
        )
        whole = Path(temporary) / GRAPH
        program.save(whole)
        whole.replace(path)


@contextmanager
def _quietly() -> Generator[None]:
    """Silence the exporter, which warns of everything that it does not find, torchvision first."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _load_onnxruntime(graph: Path) -> Run:
    runtime = import_extra("onnxruntime", "runtimes", "ONNX Runtime needs")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def _load_openvino(graph: Path, dtype: torch.dtype) -> Run:
    openvino = import_extra("openvino", "runtimes", "OpenVINO needs")
    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    model = core.read_model(graph)
    _check_weights(model, graph)
    compiled = core.compile_model(model, "CPU", settings)
    one_at_a_time = threading.Lock()

    def run(arrays: list[np.ndarray]) -> np.ndarray:
        with one_at_a_time:
            return compiled(arrays)[0].copy()  # the runtime writes its next answer over this one

    return run


def _check_weights(model: Any, graph: Path) -> None:
    """Refuse integers whose products OpenVINO, which counts with oneDNN as torch does, would cut off here."""
    weights = [
        op.data for op in model.get_ordered_ops() if op.get_type_name() == "Constant" and op.data.dtype == np.int8
    ]
    largest = max((int(np.abs(values.astype(np.int16)).max(initial=0)) for values in weights), default=0)
    if largest > WEIGHTS_OF_7_BITS + 1 and (fault := _fault_of_8_bits()) is not None:  # the range of -64 .. 63 is safe
        raise ProcessorError(
            f"{graph} has weights of 8 bits, with which OpenVINO {fault}. Export the model again: weights have 7 bits now,"
            " which are right everywhere."
        )


def _fault_of_8_bits() -> str | None:
    """Say what goes wrong with weights of 8 bits on this processor; `None` if nothing does."""
    try:
        exact = counts_exactly(WEIGHTS_OF_8_BITS)
    except ImportError as error:
        return f"may answer wrong here, which this torch cannot try: {error}"
    return None if exact else f"would answer wrong here: {why_bytes_are_wrong()}"
