"""The two pipelines behind the demo, and a copy of one for each request."""

import copy

from ..models.bundled import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..pipelines.schedulers import another_scheduler
from ..utils.devices import best_device


def load_models(
    model: str | None = None, inpaint_model: str | None = None, device: str | None = None
) -> tuple[DifFacePipeline, DifFaceInpaintPipeline]:
    """Load a pipeline that restores and one that fills holes.

    Args:
        model: Hub id or folder of a `DifFacePipeline`; the bundled one unless given.
        inpaint_model: the same of a `DifFaceInpaintPipeline`.
        device: where they run; the best there is unless given.

    Raises:
        OSError: a model cannot be found or read.
        ValueError: it is no pipeline of the kind.
    """
    device = device or best_device()
    return (
        DifFacePipeline.from_pretrained(model or BUNDLED_MODEL).to(device),
        DifFaceInpaintPipeline.from_pretrained(inpaint_model or BUNDLED_INPAINT_MODEL).to(device),
    )


def pipe_of_request(pipe: DifFacePipeline, scheduler: str | None) -> DifFacePipeline:
    """Return a pipeline of the same networks with a scheduler and a state of its own, so that requests share neither.

    Args:
        pipe: whose networks and defaults are shared.
        scheduler: a name of `SCHEDULERS`; the kind that `pipe` has unless given.
    """
    own = copy.copy(pipe)
    own.scheduler = another_scheduler(pipe.scheduler, scheduler)
    own.set_progress_bar_config(disable=True)
    return own
