"""Judging restorations: metrics against the clean face and without it, and sheets to look at."""

from .face_metrics import frechet_distance, identity_distance, landmark_distance
from .metrics import gradient_ratio, psnr, spectrum_distance, ssim
from .piqe import piqe
from .sheets import sheet


__all__ = [
    "frechet_distance",
    "gradient_ratio",
    "identity_distance",
    "landmark_distance",
    "piqe",
    "psnr",
    "sheet",
    "spectrum_distance",
    "ssim",
]
