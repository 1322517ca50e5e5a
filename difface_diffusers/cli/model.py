"""Loading the model that a command runs."""

import sys
from typing import TYPE_CHECKING, TypeVar

from ..utils.devices import best_device
from .errors import UsageError
from .options import ModelOptions, SamplingOptions


if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from ..pipelines.pipeline_difface import DifFacePipeline

    PipelineT = TypeVar("PipelineT", bound=DifFacePipeline)


def load_pipeline(
    options: ModelOptions,
    sampling: SamplingOptions,
    pipeline_class: type["PipelineT"],
    bundled: str,
    processes: "PartialState | None" = None,
) -> "PipelineT":
    """Load the model that the options name, the bundled one if they name none, and check the sampling with it.

    Raises:
        UsageError: the model cannot be loaded, the device is not there, or the sampling is out of range.
    """
    import torch

    from ..acceleration.allocation import keep_freed_memory
    from ..acceleration.processor import why_slow

    if options.model is None and (processes is None or processes.is_main_process):
        print("no --model given: using the bundled 256-pixel model")
    dtype = getattr(torch, options.dtype)
    pipe = read_pipeline(options.model or bundled, pipeline_class, dtype)
    try:
        pipe.to(device_of(options, processes))
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise UsageError(f"--device {options.device} cannot be used: {error}") from error
    if pipe.device.type == "cpu":
        keep_freed_memory()
        if (reason := why_slow(dtype)) is not None:
            print(f"--dtype {options.dtype}: {reason}", file=sys.stderr)
    pipe.set_progress_bar_config(leave=False, desc="denoising", disable=processes is not None)
    try:
        pipe.check_inputs(num_images=1, sampling=pipe.with_defaults(**sampling.of_a_call()))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return pipe


def read_pipeline(model: str, pipeline_class: type["PipelineT"], dtype: "torch.dtype") -> "PipelineT":
    """Load a model; a `UsageError` says why it cannot be."""
    from ..hub.named_models import resolve_model

    try:
        return pipeline_class.from_pretrained(resolve_model(model, pipeline_class.__name__), dtype=dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--model {model} cannot be loaded: {error}") from error


def device_of(options: ModelOptions, processes: "PartialState | None" = None) -> str:
    """Return the device to run on: the one asked for, that of this process, or the best there is."""
    if options.device is not None or processes is not None:
        return options.device or str(processes.device)
    return best_device()
