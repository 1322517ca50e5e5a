"""Which model a command runs, where, and how it samples."""

import argparse
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from .files import UsageError


if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from ..pipelines.pipeline_difface import DifFacePipeline

    PipelineT = TypeVar("PipelineT", bound=DifFacePipeline)

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


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `load_pipeline` and the pipelines' calls take."""
    model = parser.add_argument_group("model and sampling")
    model.add_argument("--model", help="Hub id or folder of a pipeline; the bundled one unless given")
    model.add_argument(
        "--preset", metavar="P", help="settings of the next four that are saved with the model, by name"
    )
    model.add_argument("--steps", type=int, metavar="K", help="network calls per face")
    model.add_argument(
        "--start",
        type=number_or_auto,
        metavar="N",
        help="start timestep, 1 .. 1000; higher invents more; auto: for each face by its damage, if the model can",
    )
    model.add_argument("--eta", type=float, metavar="E", help="share of fresh noise in each step, 0 .. 1")
    model.add_argument("--s-noise", type=float, metavar="F", help="factor on the first noise; 1.03 draws more detail")
    model.add_argument("--scheduler", choices=SCHEDULERS, help="instead of the model's own")
    model.add_argument("--samples", type=int, default=1, metavar="M", help="results per input")
    model.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise; every file starts from it")
    model.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps; the best there is unless given")
    model.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    model.add_argument("--batch-size", type=int, default=8, metavar="B", help="faces per batch")


def number_or_auto(text: str) -> int | str:
    """Return the number that a text holds, or "auto"."""
    return text if text == "auto" else int(text)


def sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return how to sample, under the names of the pipelines' arguments; `None` where the model's default is to be used."""
    return {
        "preset": args.preset,
        "num_inference_steps": args.steps,
        "start_timestep": args.start,
        "eta": args.eta,
        "s_noise": args.s_noise,
    }


def check_sampling_arguments(args: argparse.Namespace) -> None:
    """Raise a `UsageError` for what can be told before a model is loaded."""
    for option, value in {"--samples": args.samples, "--batch-size": args.batch_size}.items():
        if value < 1:
            raise UsageError(f"{option} is {value}; it must be at least 1")
    if not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed is {args.seed}; it must be within 0 .. 2**63 - 1")


def load_pipeline(
    args: argparse.Namespace,
    pipeline_class: type["PipelineT"],
    bundled: str,
    processes: "PartialState | None" = None,
) -> "PipelineT":
    """Load the model that the arguments name, the bundled one if they name none, and check the sampling with it.

    Raises:
        UsageError: the model cannot be loaded, the device is not there, or the sampling is out of range.
    """
    import diffusers
    import torch

    from ..acceleration.allocation import keep_freed_memory
    from ..acceleration.processor import why_slow

    if args.model is None and (processes is None or processes.is_main_process):
        print("no --model given: using the bundled 128-pixel model")
    dtype = getattr(torch, args.dtype)
    pipe = read_pipeline(args.model or bundled, pipeline_class, dtype)
    if args.scheduler is not None:
        pipe.scheduler = getattr(diffusers, SCHEDULERS[args.scheduler]).from_config(pipe.scheduler.config)
    try:
        pipe.to(device_of(args, processes))
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise UsageError(f"--device {args.device} cannot be used: {error}") from error
    if pipe.device.type == "cpu":
        keep_freed_memory()
        if (reason := why_slow(dtype)) is not None:
            print(f"--dtype {args.dtype}: {reason}", file=sys.stderr)
    pipe.set_progress_bar_config(leave=False, desc="denoising", disable=processes is not None)
    try:
        pipe.check_inputs(num_images=1, sampling=pipe.with_defaults(**sampling_of(args)))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return pipe


def read_pipeline(model: str, pipeline_class: type["PipelineT"], dtype: "torch.dtype") -> "PipelineT":
    """Load a model; a `UsageError` says why it cannot be."""
    try:
        return pipeline_class.from_pretrained(model, dtype=dtype)
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {model} cannot be loaded: {error}") from error


def device_of(args: argparse.Namespace, processes: "PartialState | None" = None) -> str:
    """Return the device to run on: the one asked for, that of this process, or the best there is."""
    if args.device is not None or processes is not None:
        return args.device or str(processes.device)
    return best_device()


def best_device() -> str:
    """Return the name of the fastest device of this machine."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
