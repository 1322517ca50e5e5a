"""Tells diffusers of the classes of this package, so that its own loaders find them by the names in a `model_index.json`."""

from typing import Any

import diffusers
from diffusers.modular_pipelines.modular_pipeline import MODULAR_PIPELINE_MAPPING
from diffusers.pipelines.auto_pipeline import AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, AUTO_INPAINT_PIPELINES_MAPPING
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .modular import DifFaceBlocks, DifFaceModularPipeline
from .pipeline_difface import DifFacePipeline
from .pipeline_difface_inpaint import DifFaceInpaintPipeline


TASKS: tuple[tuple[dict[str, Any], type], ...] = (
    (AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, DifFacePipeline),
    (AUTO_INPAINT_PIPELINES_MAPPING, DifFaceInpaintPipeline),
)


def register() -> None:
    """Let `DiffusionPipeline`, `AutoPipelineForImage2Image` and `AutoPipelineForInpainting` load the pipelines.

    `ModularPipeline` loads the blocks.
    """
    LOADABLE_CLASSES["difface_diffusers"] = {"ModelMixin": ["save_pretrained", "from_pretrained"]}
    for pipelines, pipeline in TASKS:
        setattr(diffusers, pipeline.__name__, pipeline)
        pipelines["difface"] = pipeline
    for modular in (DifFaceBlocks, DifFaceModularPipeline):
        setattr(diffusers, modular.__name__, modular)
    MODULAR_PIPELINE_MAPPING["difface"] = lambda config=None: DifFaceModularPipeline.__name__
