"""The pipelines that benchmarks and examples look at."""

import argparse
from typing import TypeVar

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.hub.named_models import BUNDLED, resolve_model


PipelineT = TypeVar("PipelineT", DifFacePipeline, DifFaceInpaintPipeline)


def add_model_option(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """Add `--model`."""
    parser.add_argument(
        "--model", default=BUNDLED, help='Hub id or folder of a pipeline, "bundled" or "official" (default: bundled)'
    )


def load_pipeline(model: str, pipeline_class: type[PipelineT]) -> PipelineT:
    """Load what `--model` names; its progress is not shown.

    Raises:
        OSError, ValueError, RuntimeError: See `resolve_model`.
    """
    pipe = pipeline_class.from_pretrained(resolve_model(model, pipeline_class.__name__))
    pipe.set_progress_bar_config(disable=True)
    return pipe
