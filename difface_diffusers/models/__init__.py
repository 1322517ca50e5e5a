"""Networks: the prior's UNet and the diffused estimators."""

from .estimator import DiffusedEstimator
from .lama import LaMaEstimator
from .srcnn import SRCNNEstimator
from .swinir import SwinIREstimator
from .unet import DifFaceUNet2DModel


ESTIMATORS = {  # as a training's config names them
    "swinir": SwinIREstimator,
    "srcnn": SRCNNEstimator,
    "lama": LaMaEstimator,
}

__all__ = ["DifFaceUNet2DModel", "DiffusedEstimator", *(model.__name__ for model in ESTIMATORS.values())]
