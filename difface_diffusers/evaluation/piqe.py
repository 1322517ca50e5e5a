"""PIQE, a no-reference measure of visible distortion (Venkatanath et al., NCC 2015)."""

import cv2
import numpy as np
import torch

from ..imaging.tensors import check_images


BLOCK = 16  # side of the blocks that are judged, pixels
SEGMENT = 6  # length of the pieces of a block's edge
ACTIVE_VARIANCE = 0.1  # of the normalized luma, from which a block counts
FLAT_DEVIATION = 0.1  # of an edge's segment, below which it is an artifact
NORMALIZING_WINDOW, NORMALIZING_SIGMA = 7, 7 / 6


def piqe(image: torch.Tensor) -> torch.Tensor:
    """Perception-based image quality: the share of a picture's busy blocks that are blocky, blurred flat, or noisy.

    Needs no clean picture. Sharp, clean photographs get 20 to 50; what is not busy at all gets 100.

    Args:
        image: RGB `[B,3,H,W]` in [0, 1]. What H and W leave of whole blocks of 16 pixels is mirrored.

    Returns:
        `[B]` float64, 0 (nothing is distorted) .. 100.
    """
    check_images({"image": image})
    pixels = image.detach().float().cpu().mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return torch.tensor([_piqe(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) for picture in pixels], dtype=torch.float64)


def _piqe(luma: np.ndarray) -> float:
    """Judge one picture `[H,W]`, uint8."""
    height, width = luma.shape
    padding = ((0, -height % BLOCK), (0, -width % BLOCK))
    blocks = cut_blocks(normalize_locally(np.pad(luma.astype(np.float64), padding, mode="symmetric")), BLOCK)
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > ACTIVE_VARIANCE
    blocky, noisy = _has_flat_edge(blocks), _is_noisy(blocks)
    distortion = np.where(blocky, 1 - variance, 0) + np.where(noisy, variance, 0)
    return float(100 * (distortion[active].sum() + 1) / (active.sum() + 1))


def normalize_locally(luma: np.ndarray) -> np.ndarray:
    """Subtract the local mean from a luma `[H,W]` of 0 to 255, and divide by the local deviation and 1."""

    def local_mean(values: np.ndarray) -> np.ndarray:
        window = (NORMALIZING_WINDOW, NORMALIZING_WINDOW)
        return cv2.GaussianBlur(values, window, NORMALIZING_SIGMA, borderType=cv2.BORDER_REPLICATE)

    mean = local_mean(luma)
    return (luma - mean) / (np.sqrt(np.abs(local_mean(luma * luma) - mean * mean)) + 1)


def cut_blocks(values: np.ndarray, side: int) -> np.ndarray:
    """Cut `[H,W]`, whole multiples of `side`, into `[N,side,side]`."""
    rows, columns = (length // side for length in values.shape)
    return values.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def _has_flat_edge(blocks: np.ndarray) -> np.ndarray:
    """Tell of each block whether a piece of one of its four edges hardly varies."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)  # [N,4,16]
    segments = np.lib.stride_tricks.sliding_window_view(edges, SEGMENT, axis=-1)  # [N,4,11,6]
    return (segments.std(axis=-1, ddof=1) < FLAT_DEVIATION).any(axis=(1, 2))


def _is_noisy(blocks: np.ndarray) -> np.ndarray:
    """Tell of each block whether its middle two columns vary as what is round them does."""
    middle = np.s_[BLOCK // 2 - 1 : BLOCK // 2 + 1]
    center = blocks[:, :, middle].reshape(len(blocks), -1).std(axis=1, ddof=1)
    surround = np.delete(blocks, middle, axis=2).reshape(len(blocks), -1).std(axis=1, ddof=1)
    deviation = blocks.reshape(len(blocks), -1).std(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # of flat blocks, which do not count
        ratio = center / surround
        beta = np.abs(deviation - ratio) / np.maximum(deviation, ratio)
        return deviation > 2 * beta
