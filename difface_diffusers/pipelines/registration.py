"""Tells diffusers of the classes of this package, so that its own loaders find them by the names in a `model_index.json`."""

import diffusers
from diffusers.pipelines.auto_pipeline import AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, AUTO_INPAINT_PIPELINES_MAPPING
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .pipeline_difface import DifFacePipeline
from .pipeline_difface_inpaint import DifFaceInpaintPipeline


def register() -> None:
    """Let `DiffusionPipeline.from_pretrained`, `AutoPipelineForImage2Image` and `AutoPipelineForInpainting` load pipelines."""
    LOADABLE_CLASSES["difface_diffusers"] = {"ModelMixin": ["save_pretrained", "from_pretrained"]}
    for pipeline in (DifFacePipeline, DifFaceInpaintPipeline):
        setattr(diffusers, pipeline.__name__, pipeline)
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING["difface"] = DifFacePipeline
    AUTO_INPAINT_PIPELINES_MAPPING["difface"] = DifFaceInpaintPipeline
