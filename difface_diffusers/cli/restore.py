"""`difface restore`: restore photographs, or aligned faces, from files."""

import argparse
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .files import FORMATS, UsageError, collect_inputs, comparison_path, plan_outputs


if TYPE_CHECKING:
    from accelerate import PartialState

    from ..pipeline_difface import DifFacePipeline
    from ..upscale import Upscaler
    from .report import FileResult

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm-multistep": "DPMSolverMultistepScheduler",
    "dpm-singlestep": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "deis": "DEISMultistepScheduler",
    "pndm": "PNDMScheduler",
}


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
    photos.add_argument("--draw-box", action="store_true", help="outline the faces")
    photos.add_argument("--save-crops", action="store_true", help="also write every face to NAME_faces/")

    model = parser.add_argument_group("model and sampling")
    model.add_argument("--model", help="Hub id or folder of a DifFacePipeline; the bundled one unless given")
    model.add_argument("--steps", type=int, metavar="K", help="network calls per face")
    model.add_argument("--start", type=int, metavar="N", help="start timestep, 1 .. 1000; higher invents more")
    model.add_argument("--eta", type=float, metavar="E", help="share of fresh noise in each step, 0 .. 1")
    model.add_argument("--scheduler", choices=SCHEDULERS, help="instead of the model's own")
    model.add_argument("--samples", type=int, default=1, metavar="M", help="restorations per face")
    model.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise; every file starts from it")
    model.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps; the best there is unless given")
    model.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    model.add_argument("--batch-size", type=int, default=8, metavar="B", help="faces per batch")
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
        plan = plan_outputs(files, args.output, args.samples, args.compare, args.format and f".{args.format}")
        processes = _join_processes() if plan else None
        results = _restore_share(plan, processes, args)
    except UsageError as error:
        print(f"difface restore: {error}", file=sys.stderr)
        return 2

    from .report import FileResult, write_report

    if processes is not None and processes.num_processes > 1:
        from accelerate.utils import gather_object

        results = gather_object(results)
        if not processes.is_main_process:
            return 0
    order = {str(file): index for index, file in enumerate(plan)}
    results.sort(key=lambda result: order[result.input])
    results += [FileResult(name, error=reason) for name, reason in unusable.items()]
    status = _summarise(results, time.monotonic() - started)
    if args.report is not None:
        try:
            write_report(results, args.report)
        except OSError as error:
            print(f"difface restore: --report {args.report} cannot be written: {error}", file=sys.stderr)
            return 1
    return status


def _summarise(results: list["FileResult"], seconds: float) -> int:
    """Say what was restored and what failed; return the exit status."""
    failed = [result for result in results if result.error is not None]
    skipped = sum(result.skipped for result in results)
    restored = len(results) - len(failed) - skipped
    already = f", {skipped} were there already" if skipped else ""
    print(f"restored {restored} of {len(results)} inputs{already} in {seconds:.1f} s")
    for result in failed:
        print(f"failed: {result.input}: {result.error}", file=sys.stderr)
    return 1 if failed else 0


def _check_arguments(args: argparse.Namespace) -> None:
    for option, value in {"--samples": args.samples, "--batch-size": args.batch_size}.items():
        if value < 1:
            raise UsageError(f"{option} is {value}; it must be at least 1")
    if not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed is {args.seed}; it must be within 0 .. 2**63 - 1")
    if not 1 <= args.upscale <= 8:
        raise UsageError(f"--upscale is {args.upscale}; it must be within 1 .. 8")
    if args.aligned and (args.faces != "all" or args.save_crops or args.draw_box):
        raise UsageError("--faces, --save-crops and --draw-box are for photographs; leave out --aligned")


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
    done = [file for file in own if args.skip_existing and _is_done(plan[file], args.compare)]
    results = [FileResult(str(file), list(map(str, plan[file])), skipped=True) for file in done]
    todo = {file: plan[file] for file in own if file not in done}
    if todo:
        from .batch import restore_files

        results += restore_files(_load_pipeline(args, processes), todo, args, _load_background(args, processes))
    return results


def _is_done(targets: list[Path], compare: bool) -> bool:
    return all(path.exists() for path in [*targets, *(map(comparison_path, targets) if compare else [])])


def _load_pipeline(args: argparse.Namespace, processes: "PartialState | None") -> "DifFacePipeline":
    import diffusers
    import torch

    from .. import BUNDLED_MODEL, DifFacePipeline

    if args.model is None and (processes is None or processes.is_main_process):
        print("no --model given: using the bundled 128-pixel model")
    try:
        pipe = DifFacePipeline.from_pretrained(args.model or BUNDLED_MODEL, dtype=getattr(torch, args.dtype))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {args.model or BUNDLED_MODEL} cannot be loaded: {error}") from error
    if args.scheduler is not None:
        pipe.scheduler = getattr(diffusers, SCHEDULERS[args.scheduler]).from_config(pipe.scheduler.config)
    try:
        pipe.to(_device(args, processes))
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise UsageError(f"--device {args.device} cannot be used: {error}") from error
    pipe.set_progress_bar_config(leave=False, desc="denoising", disable=processes is not None)
    steps, start, eta = pipe.with_defaults(args.steps, args.start, args.eta)
    try:
        pipe.check_inputs(num_images=1, num_inference_steps=steps, start_timestep=start, eta=eta)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return pipe


def _load_background(args: argparse.Namespace, processes: "PartialState | None") -> "Upscaler":
    import torch

    from ..upscale import load_upscaler

    try:
        return load_upscaler(args.background, _device(args, processes), getattr(torch, args.dtype))
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--background: {error}") from error


def _device(args: argparse.Namespace, processes: "PartialState | None") -> str:
    import torch

    if args.device is not None or processes is not None:
        return args.device or str(processes.device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
