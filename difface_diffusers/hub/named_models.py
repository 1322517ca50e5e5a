"""Models that are called by one word."""

from ..models.bundled import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL
from .official_models import OFFICIAL, official_model


BUNDLED = "bundled"
TASKS = {
    "DifFacePipeline": ("restoration", BUNDLED_MODEL),
    "DifFaceInpaintPipeline": ("inpainting", BUNDLED_INPAINT_MODEL),
}


def resolve_model(model: str, pipeline_name: str) -> str:
    """Return what `from_pretrained` takes for a model: the folder that a word stands for, else itself.

    Args:
        model: "bundled", "official", or a folder or Hub id.
        pipeline_name: class of the pipeline that is to be loaded.

    Raises:
        OSError, ValueError, RuntimeError: see `official_model`.
    """
    task, bundled = TASKS[pipeline_name]
    if model == OFFICIAL:
        return str(official_model(task))
    return bundled if model == BUNDLED else model
