"""DifFace face restoration as a diffusers plugin."""

from diffusers.models.modeling_utils import ModelMixin  # the loader looks this name up in the package

from .faces import Face, FaceDetector
from .hub.official_models import official_model
from .models import *  # noqa: F403  the estimators that there are
from .models import ESTIMATORS
from .models.bundled import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, BUNDLED_UPSCALER, BundledPrior
from .photos.restore import restore_photo, restore_photos
from .photos.result import PhotoRestoration
from .pipelines.modular import DifFaceBlocks
from .pipelines.output import DifFacePipelineOutput
from .pipelines.pipeline_difface import DifFacePipeline
from .pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .pipelines.registration import register
from .utils.moved import install as install_moved_modules
from .video.restore import VideoRestoration, restore_video


install_moved_modules()
register()

__all__ = [
    "BUNDLED_INPAINT_MODEL",
    "BUNDLED_MODEL",
    "BUNDLED_UPSCALER",
    "BundledPrior",
    "DifFaceBlocks",
    "DifFaceInpaintPipeline",
    "DifFacePipeline",
    "DifFacePipelineOutput",
    "DifFaceUNet2DModel",  # noqa: F405
    "Face",
    "FaceDetector",
    "ModelMixin",
    "PhotoRestoration",
    "VideoRestoration",
    "official_model",
    "restore_photo",
    "restore_photos",
    "restore_video",
    *(model.__name__ for model in ESTIMATORS.values()),
]
