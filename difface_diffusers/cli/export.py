"""`difface export`: write a pipeline with graphs for other engines."""

import argparse
import sys
from pathlib import Path

from ..folders import whole_folder
from .files import UsageError
from .sampling import read_pipeline


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface export`."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for ONNX Runtime and OpenVINO",
        description="Write a model with its networks as ONNX graphs, for `difface restore --model OUT --engine ...`.",
    )
    parser.add_argument("--model", help="Hub id or folder of a pipeline; the bundled one unless given")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; return 0, or 2 when it cannot be done."""
    import torch

    from .. import BUNDLED_MODEL, DifFacePipeline
    from ..engines import export_onnx

    model = args.model or BUNDLED_MODEL
    try:
        if args.output.exists():
            raise UsageError(f"--output {args.output} is there already")
        pipe = read_pipeline(model, DifFacePipeline, torch.float32)
        with whole_folder(args.output) as folder:
            pipe.save_pretrained(folder)
            export_onnx(pipe, folder)
    except (UsageError, ImportError) as error:
        print(f"difface export: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: a copy of {model} with graphs for --engine onnxruntime and --engine openvino")
    return 0
