"""The two pipelines behind the demo."""

from typing import TypeVar

from ..hub.named_models import resolve_model
from ..models.bundled import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..utils.devices import best_device


PipelineT = TypeVar("PipelineT", DifFacePipeline, DifFaceInpaintPipeline)


def load_models(
    model: str | None = None, inpaint_model: str | None = None, device: str | None = None
) -> tuple[DifFacePipeline, DifFaceInpaintPipeline]:
    """Load a pipeline that restores and one that fills holes.

    Args:
        model: Hub id or folder of a `DifFacePipeline`, "bundled" or "official"; the bundled one unless given.
        inpaint_model: the same of a `DifFaceInpaintPipeline`.
        device: where they run; the best there is unless given.

    Raises:
        OSError: a model cannot be found or read.
        ValueError: it is no pipeline of the kind.
    """
    device = device or best_device()
    restorer = _load(DifFacePipeline, model or BUNDLED_MODEL).to(device)
    inpainter = _load(DifFaceInpaintPipeline, inpaint_model or BUNDLED_INPAINT_MODEL).to(device)
    for pipe in (restorer, inpainter):
        pipe.set_progress_bar_config(disable=True)  # the page shows one
    return restorer, inpainter


def _load(pipeline_class: type[PipelineT], model: str) -> PipelineT:
    return pipeline_class.from_pretrained(resolve_model(model, pipeline_class.__name__))
