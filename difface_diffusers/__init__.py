"""DifFace face restoration as a diffusers plugin."""

from diffusers.models.modeling_utils import ModelMixin  # the loader looks this name up in the package
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .faces import Face, FaceDetector
from .models import *  # noqa: F403  the estimators that there are
from .models import ESTIMATORS
from .models.bundled import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL
from .photos.restore import restore_photo, restore_photos
from .photos.result import PhotoRestoration
from .pipelines.output import DifFacePipelineOutput
from .pipelines.pipeline_difface import DifFacePipeline
from .pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .utils.moved import install as install_moved_modules


install_moved_modules()

# Lets diffusers' loader accept ["difface_diffusers", "SwinIREstimator"] in a model_index.json, local or on the Hub.
LOADABLE_CLASSES["difface_diffusers"] = {"ModelMixin": ["save_pretrained", "from_pretrained"]}

__all__ = [
    "BUNDLED_INPAINT_MODEL",
    "BUNDLED_MODEL",
    "DifFaceInpaintPipeline",
    "DifFacePipeline",
    "DifFacePipelineOutput",
    "DifFaceUNet2DModel",  # noqa: F405
    "Face",
    "FaceDetector",
    "ModelMixin",
    "PhotoRestoration",
    "restore_photo",
    "restore_photos",
    *(model.__name__ for model in ESTIMATORS.values()),
]
