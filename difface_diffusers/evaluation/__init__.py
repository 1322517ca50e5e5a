"""Judging restorations: metrics against the clean face and without it, test sets, and sheets to look at."""

from ..imaging.grids import image_grid
from ..utils.moved import renamed
from .distributions import fid, kid, load_feature_network
from .face_metrics import frechet_distance, identity_distance, landmark_distance
from .lpips import load_lpips
from .metrics import coarse_psnr, gradient_ratio, ms_ssim, psnr, psnr_y, spectrum_distance, ssim
from .niqe import niqe
from .piqe import piqe


__all__ = [
    "coarse_psnr",
    "fid",
    "frechet_distance",
    "gradient_ratio",
    "identity_distance",
    "image_grid",
    "kid",
    "landmark_distance",
    "load_feature_network",
    "load_lpips",
    "ms_ssim",
    "niqe",
    "piqe",
    "psnr",
    "psnr_y",
    "spectrum_distance",
    "ssim",
]

__getattr__ = renamed(__name__, {"sheet": "image_grid"})
