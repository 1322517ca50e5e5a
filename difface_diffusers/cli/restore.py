"""`difface restore`: restore photographs, or aligned faces, from files."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from .errors import UsageError, refuse
from .model import device_of, load_pipeline
from .options import MASK_HELP, FileOptions, RestoreOptions, add_change_arguments, add_model_arguments
from .parser import Commands


if TYPE_CHECKING:
    from accelerate import PartialState

    from ..photos.upscale import Upscaler
    from ..pipelines.pipeline_difface import DifFacePipeline
    from .jobs import Plan
    from .report import FileResult


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface restore`."""
    parser = subparsers.add_parser(
        "restore",
        help="restore faces",
        description="Restore faces. A bad file does not stop the others; the exit status is 1 when any failed.",
        examples=[
            "difface restore photo.jpg -o restored/",
            "difface restore album/ -o restored/ --recursive --skip-existing --compare",
            "difface restore scan.png --damage-mask tears.png -o restored/",
            "difface restore photo.jpg -o restored/ --model official",
        ],
    )
    FileOptions.add_to(parser)
    parser.add_argument("--compare", action="store_true", help="also write NAME_compare.png: input and result")

    photos = parser.add_argument_group("photographs")
    photos.add_argument("--aligned", action="store_true", help="the inputs are aligned faces, not photographs")
    photos.add_argument(
        "--faces", type=_faces, default="all", help='"all", "largest", "center", or numbers from the left, as 0,2'
    )
    photos.add_argument(
        "--min-face-size", type=float, default=MIN_FACE_SIZE, metavar="PX", help="leave narrower faces"
    )
    photos.add_argument("--upscale", type=float, default=2, metavar="F", help="of the whole picture, 1 .. 8")
    photos.add_argument(
        "--background",
        default="bundled",
        help='"bundled", "lanczos", "none", or a network of Real-ESRGAN, as realesr-general-x4v3 or a file, or of Swin2SR',
    )
    photos.add_argument(
        "--background-denoise",
        type=float,
        default=1.0,
        metavar="S",
        help="with realesr-general-x4v3: how far it takes noise away, 0 .. 1",
    )
    add_change_arguments(photos, match_grain="auto")
    photos.add_argument("--damage-mask", type=Path, metavar="MASK", help=f"fill this damage first: {MASK_HELP}")
    photos.add_argument("--draw-box", action="store_true", help="outline the faces")
    photos.add_argument("--save-crops", action="store_true", help="also write every face to NAME_faces/")

    add_model_arguments(parser)
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write NAME_uncertainty.png, where the --samples differ from each other, and say how far they are from"
        " the input",
    )
    parser.add_argument(
        "--pick", choices=["identity"], help="make one result of the --samples: of each face the nearest to the input"
    )
    runtimes = ["onnxruntime", "openvino"]
    parser.add_argument("--runtime", choices=runtimes, help="runs a model that `difface export` wrote, on the CPU")
    parser.add_argument("--engine", dest="runtime", choices=runtimes, action=OldOption, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


class OldOption(argparse.Action):
    """An option's name of the last release: does what the new one does, and says so."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value under the new name."""
        print(f"{option_string} is called --{self.dest} now", file=sys.stderr)
        setattr(namespace, self.dest, values)


def _faces(text: str) -> str | list[int]:
    if text in ("all", "largest", "center"):
        return text
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither all, largest, center nor numbers as 0,2") from None


def run(args: argparse.Namespace) -> int:
    """Restore every input; return 0, 1 when some failed, 2 when the command cannot start."""
    from .files import Extras
    from .jobs import run_job

    try:
        options = take(RestoreOptions, vars(args))
        results = 1 if options.pick else options.sampling.num_samples
        work = partial(_restore, options)
        extras = Extras(options.compare, options.uncertainty, options.save_crops)
        return run_job(options.files, "restored", work, options.aligned, results, extras, options.damage_mask)
    except UsageError as error:
        return refuse("restore", error)


def _restore(options: RestoreOptions, plan: "Plan", processes: "PartialState | None") -> Iterator["FileResult"]:
    """Load what it takes and restore the files of a plan."""
    from .. import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline
    from .batch import restore_files

    if options.uncertainty or options.pick:
        _check_identity_network()
    model = options.model if options.runtime is None else dataclasses.replace(options.model, device="cpu")
    pipe = load_pipeline(model, options.sampling, DifFacePipeline, BUNDLED_MODEL, processes)
    if options.runtime is not None and model.model is not None:
        _use_runtime(pipe, model.model, options.runtime, model.dtype)
    inpainter = None
    if options.damage_mask is not None:
        inpainter = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL).to(pipe.device)
        inpainter.set_progress_bar_config(disable=True)
    background = _load_background(options, device_of(model, processes))
    yield from restore_files(pipe, plan, options, background, inpainter)


def _check_identity_network() -> None:
    from ..evaluation.face_metrics import load_identity_network

    try:
        load_identity_network()
    except ImportError as error:
        raise UsageError(f"--uncertainty and --pick: {error}") from error


def _use_runtime(pipe: "DifFacePipeline", folder: str, runtime: str, dtype: str) -> None:
    import torch

    from ..acceleration.processor import ProcessorError
    from ..acceleration.runtimes import use_runtime

    try:
        use_runtime(pipe, folder, runtime, getattr(torch, dtype))
    except (ImportError, FileNotFoundError, ValueError, ProcessorError) as error:
        raise UsageError(f"--runtime {runtime}: {error}") from error


def _load_background(options: RestoreOptions, device: str) -> "Upscaler":
    from ..photos.upscale import load_upscaler

    try:
        return load_upscaler(options.background, device, denoise_strength=options.background_denoise)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--background: {error}") from error
