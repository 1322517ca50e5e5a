"""`difface inpaint`: fill holes in photographs, or in aligned faces, from files."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from .errors import UsageError, refuse
from .model import load_pipeline
from .options import MASK_HELP, FileOptions, InpaintOptions, add_model_arguments
from .parser import Commands


if TYPE_CHECKING:
    from accelerate import PartialState

    from .jobs import Plan
    from .report import FileResult


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface inpaint`."""
    parser = subparsers.add_parser(
        "inpaint",
        help="fill holes, scratches and tears",
        description="Fill what is missing: faces by the model, the rest of a photograph from its surroundings. All other"
        " pixels stay. A bad file does not stop the others; the exit status is 1 when any failed.",
        examples=[
            "difface inpaint scan.png --mask scratches.png -o filled.png",
            "difface inpaint album/ --mask masks/ -o filled/",
        ],
    )
    FileOptions.add_to(parser)
    parser.add_argument("--mask", type=Path, help=f"{MASK_HELP}; without it, pixels that are exactly black are filled")
    parser.add_argument("--invert-mask", action="store_true", help="black is to be filled instead")
    parser.add_argument("--aligned", action="store_true", help="the inputs are aligned faces, not photographs")
    parser.add_argument(
        "--min-face-size", type=float, default=MIN_FACE_SIZE, metavar="PX", help="narrower faces are no faces"
    )
    parser.add_argument(
        "--keep-gray", choices=["auto", "on", "off"], default="auto", help="whether gray or sepia photographs stay so"
    )
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fill every input; return 0, 1 when some failed, 2 when the command cannot start."""
    from .jobs import run_job

    try:
        options = take(InpaintOptions, vars(args))
        work = partial(_fill, options)
        return run_job(
            options.files, "filled", work, options.aligned, options.sampling.num_samples, masks=options.mask
        )
    except UsageError as error:
        return refuse("inpaint", error)


def _fill(options: InpaintOptions, plan: "Plan", processes: "PartialState | None") -> Iterator["FileResult"]:
    """Load the model and fill the files of a plan."""
    from .. import BUNDLED_INPAINT_MODEL, DifFaceInpaintPipeline
    from .fill import fill_files

    pipe = load_pipeline(options.model, options.sampling, DifFaceInpaintPipeline, BUNDLED_INPAINT_MODEL, processes)
    yield from fill_files(pipe, plan, options)
