"""`difface restore`: restore aligned faces from files."""

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .files import UsageError, collect_inputs, comparison_path, plan_outputs, save_image


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..pipeline_difface import DifFacePipeline

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
    parser.add_argument("--model", help="Hub id or folder of a DifFacePipeline; the bundled one unless given")
    parser.add_argument("--aligned", action="store_true", help="the inputs are aligned faces, not photographs")
    parser.add_argument("--steps", type=int, metavar="K", help="network calls per face")
    parser.add_argument("--start", type=int, metavar="N", help="start timestep, 1 .. 1000; higher invents more")
    parser.add_argument("--eta", type=float, metavar="E", help="share of fresh noise in each step, 0 .. 1")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="instead of the model's own")
    parser.add_argument("--samples", type=int, default=1, metavar="M", help="restorations per face")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise; every file starts from it")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps; the best there is unless given")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--batch-size", type=int, default=8, metavar="B", help="faces per batch")
    parser.add_argument(
        "--compare", action="store_true", help="also write NAME_compare.png: input, estimate, restored"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore every input; return 0, 1 when some failed, 2 when the command cannot start."""
    started = time.monotonic()
    try:
        _check_arguments(args)
        files, failures = collect_inputs(args.input)
        plan = plan_outputs(files, args.output, args.samples, args.compare)
        for name, reason in failures.items():
            print(f"{name}: {reason}", file=sys.stderr)
        if files:
            failures |= _restore_files(_load_pipeline(args), plan, args)
    except UsageError as error:
        print(f"difface restore: {error}", file=sys.stderr)
        return 2

    restored = len(files) - sum(str(file) in failures for file in files)
    print(f"restored {restored} of {restored + len(failures)} inputs in {time.monotonic() - started:.1f} s")
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _check_arguments(args: argparse.Namespace) -> None:
    if not args.aligned:
        raise UsageError("only aligned faces can be restored so far; pass --aligned if yours are")
    for option, value in {"--samples": args.samples, "--batch-size": args.batch_size}.items():
        if value < 1:
            raise UsageError(f"{option} is {value}; it must be at least 1")
    if not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed is {args.seed}; it must be within 0 .. 2**63 - 1")


def _load_pipeline(args: argparse.Namespace) -> "DifFacePipeline":
    import diffusers
    import torch

    from .. import BUNDLED_MODEL, DifFacePipeline

    if args.model is None:
        print("no --model given: using the bundled 128-pixel model")
    try:
        pipe = DifFacePipeline.from_pretrained(args.model or BUNDLED_MODEL, dtype=getattr(torch, args.dtype))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {args.model or BUNDLED_MODEL} cannot be loaded: {error}") from error
    if args.scheduler is not None:
        pipe.scheduler = getattr(diffusers, SCHEDULERS[args.scheduler]).from_config(pipe.scheduler.config)
    try:
        pipe.to(args.device or _best_device())
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise UsageError(f"--device {args.device} cannot be used: {error}") from error
    pipe.set_progress_bar_config(leave=False, desc="denoising")
    return pipe


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _restore_files(pipe: "DifFacePipeline", plan: dict[Path, list[Path]], args: argparse.Namespace) -> dict[str, str]:
    from tqdm import tqdm

    from ..image_processing import load_image, pil_to_tensor

    failures: dict[str, str] = {}
    pending = iter(plan)
    with tqdm(total=len(plan), unit="face", disable=len(plan) == 1) as progress:
        while chunk := list(itertools.islice(pending, args.batch_size)):
            images: dict[Path, torch.Tensor] = {}
            for file in chunk:
                try:
                    images[file] = pil_to_tensor(load_image(file))
                except (OSError, ValueError) as error:
                    failures[str(file)] = str(error)
            restored, estimates = _restore_batch(pipe, list(images.values()), args) if images else ([], [])
            for index, (file, image) in enumerate(images.items()):
                rows = range(index * args.samples, (index + 1) * args.samples)
                try:
                    for row, target in zip(rows, plan[file], strict=True):
                        save_image(restored[row], target)
                        if args.compare:
                            comparison = _compare(image, estimates[row], restored[row])
                            save_image(comparison, comparison_path(target))
                    tqdm.write(f"{file} -> {', '.join(map(str, plan[file]))}")
                except OSError as error:
                    failures[str(file)] = f"cannot be written: {error}"
            progress.update(len(chunk))
    return failures


def _restore_batch(
    pipe: "DifFacePipeline", images: list["torch.Tensor"], args: argparse.Namespace
) -> tuple[list["Image.Image"], list["Image.Image"]]:
    import torch

    from ..pipeline_difface import split_generator

    # Every file starts from the seed itself, so that it comes out the same whatever else is restored with it.
    generators = [
        generator
        for _ in images
        for generator in split_generator(torch.Generator().manual_seed(args.seed), args.samples)
    ]
    try:
        output = pipe(
            images,
            num_inference_steps=args.steps,
            start_timestep=args.start,
            eta=args.eta,
            num_samples=args.samples,
            generator=generators,
            return_dict=False,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return cast(tuple[list["Image.Image"], list["Image.Image"]], output)


def _compare(image: "torch.Tensor", estimate: "Image.Image", restored: "Image.Image") -> "Image.Image":
    from ..evaluation.sheets import sheet
    from ..image_processing import pil_to_tensor

    columns = {"input": image, "estimate": pil_to_tensor(estimate), "restored": pil_to_tensor(restored)}
    return sheet({name: column[None] for name, column in columns.items()})
