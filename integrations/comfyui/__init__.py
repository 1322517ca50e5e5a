"""DifFace in ComfyUI: nodes that restore faces, fill holes and show what is a guess."""

import importlib.util


if importlib.util.find_spec("difface_diffusers") is None:
    raise ImportError(
        "difface-diffusers is missing; install it with ComfyUI's own Python: python -m pip install difface-diffusers"
    )

from .loading import LoadInpaintingModel, LoadModel
from .nodes import Inpaint, RestoreAligned, RestorePhoto, SeveralVersions


NODE_CLASS_MAPPINGS = {
    "DifFaceLoadModel": LoadModel,
    "DifFaceLoadInpaintingModel": LoadInpaintingModel,
    "DifFaceRestorePhoto": RestorePhoto,
    "DifFaceRestoreAligned": RestoreAligned,
    "DifFaceInpaint": Inpaint,
    "DifFaceSeveralVersions": SeveralVersions,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "DifFaceLoadModel": "Load DifFace Model",
    "DifFaceLoadInpaintingModel": "Load DifFace Inpainting Model",
    "DifFaceRestorePhoto": "Restore Photo (DifFace)",
    "DifFaceRestoreAligned": "Restore Aligned Faces (DifFace)",
    "DifFaceInpaint": "Inpaint Faces (DifFace)",
    "DifFaceSeveralVersions": "Several Versions (DifFace)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
