"""Networks: the prior's UNet and the diffused estimators."""

from .estimator import DiffusedEstimator
from .lama import LaMaEstimator
from .srcnn import SRCNNEstimator
from .swinir import SwinIREstimator
from .unet import DifFaceUNet2DModel


__all__ = ["DifFaceUNet2DModel", "DiffusedEstimator", "LaMaEstimator", "SRCNNEstimator", "SwinIREstimator"]
