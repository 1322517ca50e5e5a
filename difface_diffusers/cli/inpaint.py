"""`difface inpaint`: fill holes in photographs, or in aligned faces, from files."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .files import FORMATS, MASK_HELP, UsageError, collect_inputs, plan_outputs
from .sampling import add_sampling_arguments, check_sampling_arguments, load_pipeline


if TYPE_CHECKING:
    from .report import FileResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface inpaint`."""
    parser = subparsers.add_parser(
        "inpaint",
        help="fill holes, scratches and tears",
        description="Fill what is missing: faces by the model, the rest of a photograph from its surroundings. All other"
        " pixels stay. A bad file does not stop the others; the exit status is 1 when any failed.",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image file, folder or glob pattern")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="folder, or file for one input"
    )
    parser.add_argument("--mask", type=Path, help=f"{MASK_HELP}; without it, pixels that are exactly black are filled")
    parser.add_argument("--invert-mask", action="store_true", help="black is to be filled instead")
    parser.add_argument("--aligned", action="store_true", help="the inputs are aligned faces, not photographs")
    parser.add_argument("--min-face-size", type=float, default=16, metavar="PX", help="narrower faces are no faces")
    parser.add_argument(
        "--keep-gray", choices=["auto", "on", "off"], default="auto", help="whether gray or sepia photographs stay so"
    )
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="search folders to any depth, mirror their tree"
    )
    parser.add_argument(
        "--format", choices=[suffix[1:] for suffix in FORMATS], help="of the results; that of the input unless given"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave inputs whose results are there already")
    parser.add_argument("--report", type=Path, metavar="JSON", help="write what became of every input")
    add_sampling_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fill every input; return 0, 1 when some failed, 2 when the command cannot start."""
    started = time.monotonic()
    try:
        check_sampling_arguments(args)
        if args.mask is not None and not args.mask.exists():
            raise UsageError(f"--mask {args.mask}: no such file or folder")
        if args.invert_mask and args.mask is None:
            raise UsageError("--invert-mask turns a mask around; give one by --mask")
        files, unusable = collect_inputs(args.input, args.recursive, args.output)
        plan = plan_outputs(files, args.output, args.samples, suffix=args.format and f".{args.format}")
        results = _fill_files(plan, args)
    except UsageError as error:
        print(f"difface inpaint: {error}", file=sys.stderr)
        return 2

    from .report import FileResult, conclude

    results += [FileResult(name, error=reason) for name, reason in unusable.items()]
    return conclude(results, time.monotonic() - started, "filled", args.report)


def _fill_files(plan: dict[Path, list[Path]], args: argparse.Namespace) -> list["FileResult"]:
    from .report import FileResult

    done = [file for file in plan if args.skip_existing and all(target.exists() for target in plan[file])]
    results = [FileResult(str(file), list(map(str, plan[file])), skipped=True) for file in done]
    todo = {file: targets for file, targets in plan.items() if file not in done}
    if todo:
        from .. import BUNDLED_INPAINT_MODEL, DifFaceInpaintPipeline
        from .fill import fill_files

        results += fill_files(load_pipeline(args, DifFaceInpaintPipeline, BUNDLED_INPAINT_MODEL), todo, args)
    order = {str(file): index for index, file in enumerate(plan)}
    return sorted(results, key=lambda result: order[result.input])
