"""Judging restorations: metrics against the clean face, and sheets to look at."""

from .metrics import gradient_energy_ratio, identity_distance, psnr, ssim
from .sheets import sheet


__all__ = ["gradient_energy_ratio", "identity_distance", "psnr", "sheet", "ssim"]
