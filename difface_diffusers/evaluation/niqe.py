"""NIQE, a no-reference measure of how natural a picture's local statistics are (Mittal et al., SPL 2013)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import gamma

from ..imaging.tensors import check_images
from .piqe import cut_blocks, normalize_locally
from .protocol import luma


PRISTINE_MODEL = Path(__file__).parent / "niqe_model" / "pristine.npz"
BLOCK = 96  # side, pixels; half of it at the second scale
HALVING_MARGIN = 8  # pixels; what a bicubic that halves sees beyond the border, and more
NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to each neighbor that a pixel is multiplied with
SHAPES = np.arange(0.2, 10.001, 0.001)  # of the generalized Gaussians that are tried


def niqe(image: torch.Tensor) -> torch.Tensor:
    """Natural image quality evaluator: distance of local statistics from those of undistorted photographs.

    Needs no clean picture. Judged is the luma (see `protocol`), rounded; rows and columns that do not fill a block of 96 pixels
    are left out.

    Args:
        image: RGB `[B,3,H,W]` in [0, 1], large enough for two blocks: 192 x 96 pixels or more.

    Returns:
        `[B]` float64, at least 0; photographs get 2 to 6, lower is more natural.
    """
    check_images({"image": image})
    rows, columns = (side // BLOCK for side in image.shape[-2:])
    if rows * columns < 2:
        raise ValueError(f"`image` must hold two blocks of {BLOCK} x {BLOCK} pixels, got {list(image.shape)}")
    pixels = luma(image)[..., : rows * BLOCK, : columns * BLOCK].round().cpu()
    return torch.tensor(
        [
            _distance(np.hstack([_features(picture, BLOCK), _features(_halve(picture), BLOCK // 2)]))
            for picture in pixels[:, 0].numpy()
        ],
        dtype=torch.float64,
    )


@cache
def load_pristine_model() -> tuple[np.ndarray, np.ndarray]:
    """Return mean `[36]` and covariance `[36,36]` of the features of undistorted photographs."""
    with np.load(PRISTINE_MODEL, allow_pickle=False) as model:
        return model["mu_pris_param"][0], model["cov_pris_param"]


def _halve(values: np.ndarray) -> np.ndarray:
    """Shrink `[H,W]` by 2 with an antialiased bicubic that sees the picture mirrored beyond its border."""
    mirrored = torch.from_numpy(np.pad(values, HALVING_MARGIN, mode="symmetric"))[None, None]
    smaller = F.interpolate(mirrored, scale_factor=0.5, mode="bicubic", antialias=True)[0, 0].numpy()
    return smaller[HALVING_MARGIN // 2 : -HALVING_MARGIN // 2, HALVING_MARGIN // 2 : -HALVING_MARGIN // 2]


def _distance(features: np.ndarray) -> float:
    """Compare the features `[N,36]` of a picture's blocks with the pristine model, both as Gaussians."""
    mean, covariance = load_pristine_model()
    whole = features[~np.isnan(features).any(axis=1)]
    pooled = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
    difference = np.nanmean(features, axis=0) - mean
    return float(np.sqrt(difference @ pooled @ difference))


def _features(values: np.ndarray, block: int) -> np.ndarray:
    """Return the 18 features of each block of a luma `[H,W]`: `[N,18]`."""
    blocks = cut_blocks(normalize_locally(values), block)
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in NEIGHBORS:
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(features, axis=1)


def _fit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalized Gaussian to each of `[N,S,S]` by its moments; return shape, left and right width."""
    values = blocks.reshape(len(blocks), -1)
    with np.errstate(invalid="ignore", divide="ignore"):  # flat blocks come out as NaN
        left, right = (
            np.sqrt(np.sum(np.where(side, values**2, 0), axis=1) / side.sum(axis=1))
            for side in (values < 0, values > 0)
        )
        ratio = left / right
        moments = np.abs(values).mean(axis=1) ** 2 / (values**2).mean(axis=1)
        moments *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    expected = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
    shape = SHAPES[np.abs(expected - moments[:, None]).argmin(axis=1)]
    width = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * width, right * width
