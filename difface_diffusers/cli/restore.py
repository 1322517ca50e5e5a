"""`difface restore`: restore photographs, or aligned faces, from files."""

import argparse
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .files import FORMATS, MASK_HELP, UsageError, collect_inputs, plan_outputs, written_files
from .sampling import add_sampling_arguments, check_sampling_arguments, device_of, load_pipeline


if TYPE_CHECKING:
    from accelerate import PartialState

    from ..photos.upscale import Upscaler
    from ..pipelines.pipeline_difface import DifFacePipeline
    from .report import FileResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface restore`."""
    parser = subparsers.add_parser(
        "restore",
        help="restore faces",
        description="Restore faces. A bad file does not stop the others; the exit status is 1 when any failed.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image file, folder or glob pattern")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="folder, or file for one input"
    )
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="search folders to any depth, mirror their tree"
    )
    parser.add_argument(
        "--format", choices=[suffix[1:] for suffix in FORMATS], help="of the results; that of the input unless given"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave inputs whose results are there already")
    parser.add_argument("--compare", action="store_true", help="also write NAME_compare.png: input and result")
    parser.add_argument("--report", type=Path, metavar="JSON", help="write what became of every input")

    photos = parser.add_argument_group("photographs")
    photos.add_argument("--aligned", action="store_true", help="the inputs are aligned faces, not photographs")
    photos.add_argument(
        "--faces", type=_faces, default="all", help='"all", "largest", "center", or numbers from the left, as 0,2'
    )
    photos.add_argument("--min-face-size", type=float, default=16, metavar="PX", help="leave narrower faces")
    photos.add_argument("--upscale", type=float, default=2, metavar="F", help="of the whole picture, 1 .. 8")
    photos.add_argument(
        "--background", default="lanczos", help='"lanczos", "none", or the Hub id or folder of a Swin2SR model'
    )
    photos.add_argument(
        "--keep-gray", choices=["auto", "on", "off"], default="auto", help="whether gray or sepia photographs stay so"
    )
    photos.add_argument("--damage-mask", type=Path, metavar="MASK", help=f"fill this damage first: {MASK_HELP}")
    photos.add_argument("--draw-box", action="store_true", help="outline the faces")
    photos.add_argument("--save-crops", action="store_true", help="also write every face to NAME_faces/")

    add_sampling_arguments(parser)
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write NAME_uncertainty.png, where the --samples differ from each other, and say how far they are from"
        " the input",
    )
    parser.add_argument(
        "--pick", choices=["identity"], help="make one result of the --samples: of each face the nearest to the input"
    )
    parser.add_argument(
        "--engine", choices=["onnxruntime", "openvino"], help="runs a model that `difface export` wrote, on the CPU"
    )
    parser.set_defaults(run=run)


def _faces(text: str) -> str | list[int]:
    if text in ("all", "largest", "center"):
        return text
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither all, largest, center nor numbers as 0,2") from None


def run(args: argparse.Namespace) -> int:
    """Restore every input; return 0, 1 when some failed, 2 when the command cannot start."""
    started = time.monotonic()
    try:
        _check_arguments(args)
        files, unusable = collect_inputs(args.input, args.recursive, args.output)
        plan = plan_outputs(
            files,
            args.output,
            1 if args.pick else args.samples,
            args.compare,
            args.uncertainty,
            args.format and f".{args.format}",
        )
        processes = _join_processes() if plan else None
        results = _restore_share(plan, processes, args)
    except UsageError as error:
        print(f"difface restore: {error}", file=sys.stderr)
        return 2

    from .report import FileResult, conclude

    if processes is not None and processes.num_processes > 1:
        from accelerate.utils import gather_object

        results = gather_object(results)
        if not processes.is_main_process:
            return 0
    order = {str(file): index for index, file in enumerate(plan)}
    results.sort(key=lambda result: order[result.input])
    results += [FileResult(name, error=reason) for name, reason in unusable.items()]
    return conclude(results, time.monotonic() - started, "restored", args.report)


def _check_arguments(args: argparse.Namespace) -> None:
    check_sampling_arguments(args)
    if not 1 <= args.upscale <= 8:
        raise UsageError(f"--upscale is {args.upscale}; it must be within 1 .. 8")
    if args.aligned and (args.faces != "all" or args.save_crops or args.draw_box or args.damage_mask is not None):
        raise UsageError(
            "--faces, --damage-mask, --save-crops and --draw-box are for photographs; leave out --aligned"
        )
    if (args.uncertainty or args.pick) and args.samples < 2:
        raise UsageError(f"--uncertainty and --pick compare samples, but --samples is {args.samples}; take 2 at least")
    if args.engine is not None:
        if args.model is None:
            raise UsageError(f"--engine {args.engine} needs --model, a folder that `difface export` wrote")
        if args.device not in (None, "cpu"):
            raise UsageError(f"--device is {args.device}; --engine {args.engine} runs on the CPU")
        args.device = "cpu"
    if args.damage_mask is not None and not args.damage_mask.exists():
        raise UsageError(f"--damage-mask {args.damage_mask}: no such file or folder")


def _join_processes() -> "PartialState | None":
    """Return the processes of `accelerate launch` that share the work, `None` if this one is alone."""
    if "LOCAL_RANK" not in os.environ:
        return None
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def _restore_share(
    plan: dict[Path, list[Path]], processes: "PartialState | None", args: argparse.Namespace
) -> list["FileResult"]:
    from .report import FileResult

    own = list(plan)[processes.process_index :: processes.num_processes] if processes else list(plan)
    done = [file for file in own if args.skip_existing and _is_done(plan[file], args)]
    results = [FileResult(str(file), list(map(str, plan[file])), skipped=True) for file in done]
    todo = {file: plan[file] for file in own if file not in done}
    if todo:
        from .. import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline
        from .batch import restore_files

        if args.uncertainty or args.pick:
            _check_identity_network()
        pipe = load_pipeline(args, DifFacePipeline, BUNDLED_MODEL, processes)
        if args.engine is not None:
            _use_engine(pipe, args)
        inpainter = None
        if args.damage_mask is not None:
            inpainter = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL).to(pipe.device)
            inpainter.set_progress_bar_config(disable=True)
        results += restore_files(pipe, todo, args, _load_background(args, processes), inpainter)
    return results


def _check_identity_network() -> None:
    from ..evaluation.face_metrics import load_identity_network

    try:
        load_identity_network()
    except ImportError as error:
        raise UsageError(f"--uncertainty and --pick: {error}") from error


def _use_engine(pipe: "DifFacePipeline", args: argparse.Namespace) -> None:
    import torch

    from ..acceleration.engines import use_engine
    from ..acceleration.processor import ProcessorError

    try:
        use_engine(pipe, args.model, args.engine, getattr(torch, args.dtype))
    except (ImportError, FileNotFoundError, ValueError, ProcessorError) as error:
        raise UsageError(f"--engine {args.engine}: {error}") from error


def _is_done(targets: list[Path], args: argparse.Namespace) -> bool:
    return all(path.exists() for path in written_files(targets, args.compare, args.uncertainty))


def _load_background(args: argparse.Namespace, processes: "PartialState | None") -> "Upscaler":
    import torch

    from ..photos.upscale import load_upscaler

    try:
        return load_upscaler(args.background, device_of(args, processes), getattr(torch, args.dtype))
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--background: {error}") from error
