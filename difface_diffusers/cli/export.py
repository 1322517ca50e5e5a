"""`difface export`: write a pipeline with graphs for other runtimes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.atomic import whole_folder
from ..utils.records import take
from .errors import UsageError, check_output, refuse
from .model import read_pipeline
from .parser import Commands


if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ExportOptions:
    """What `difface export` is asked.

    Attributes:
        model: Hub id or folder of a pipeline; `None` is the bundled one.
        output: folder to write.
        int8: aligned faces for 8 bits: files, folders and glob patterns; `None` exports none.

    Raises:
        UsageError: `output` is there already, and is not an empty folder.
    """

    model: str | None
    output: Path
    int8: list[str] | None

    def __post_init__(self) -> None:
        check_output(self.output)


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface export`."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for ONNX Runtime and OpenVINO",
        description="Write a model with its networks as ONNX graphs, for `difface restore --model OUT --runtime ...`.",
        examples=[
            "difface export -o mini-onnx",
            "difface export -o mini-int8 --int8 degraded_faces/",
        ],
    )
    parser.add_argument(
        "--model", help='Hub id or folder of a pipeline, "bundled" or "official"; the bundled one unless given'
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--int8",
        nargs="+",
        metavar="FACES",
        help="let the prior count in 8 bits, for --runtime openvino; some aligned faces as degraded as yours: files,"
        " folders, globs",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; return 0, or 2 when it cannot be done."""
    import torch

    from .. import BUNDLED_MODEL, DifFacePipeline
    from ..acceleration.calibration import quantize_graph
    from ..acceleration.runtimes import export_onnx

    try:
        options = take(ExportOptions, vars(args))
        model = options.model or BUNDLED_MODEL
        faces = read_faces(options.int8 or [])
        pipe = read_pipeline(model, DifFacePipeline, torch.float32)
        with whole_folder(options.output) as folder:
            pipe.save_pretrained(folder)
            export_onnx(pipe, folder)
            if faces:
                pipe.set_progress_bar_config(disable=True)
                quantize_graph(pipe, folder, faces)
    except (UsageError, ImportError) as error:
        return refuse("export", error)
    runtimes = "--runtime openvino, in 8 bits" if faces else "--runtime onnxruntime and --runtime openvino"
    print(f"{options.output}: a copy of {model} with graphs for {runtimes}")
    return 0


def read_faces(inputs: Sequence[str]) -> "list[Image]":
    """Read every picture that files, folders and glob patterns name; a `UsageError` says which cannot be read."""
    from ..imaging.files import load_image
    from .inputs import collect_inputs

    found = collect_inputs(inputs)
    if found.failures:
        raise UsageError("; ".join(f"--int8 {name}: {reason}" for name, reason in found.failures.items()))
    try:
        return [load_image(file).convert("RGB") for file in found.files]
    except OSError as error:
        raise UsageError(f"--int8: {error}") from error
