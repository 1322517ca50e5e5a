import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.evaluation import piqe
from tests.evaluation.test_metrics import batch, constant, read_astronaut


def score(luma):
    """PIQE of a gray picture `[H,W]`, uint8."""
    return piqe(torch.from_numpy(luma)[None, None].expand(1, 3, -1, -1) / 255).item()


def test_what_is_flat_is_bad():
    values = piqe(constant(0.2, 0.9, size=32))
    assert values.dtype == torch.float64 and values.tolist() == [100, 100]


def test_by_hand():
    """Of two blocks one is flat and does not count; the other is busy at its right edge alone, so not noisy."""
    luma = np.full((16, 32), 100, np.uint8)
    luma[:, 28:] = np.random.default_rng(0).integers(0, 256, (16, 4))
    window = cv2.getGaussianKernel(7, 7 / 6)
    padded = np.pad(luma.astype(float), 3, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    mean = (windows * (window @ window.T)).sum((-1, -2))
    deviation = np.sqrt(np.abs((windows**2 * (window @ window.T)).sum((-1, -2)) - mean**2))
    block = ((luma - mean) / (deviation + 1))[:, 16:]
    assert block[:6, 0].std(ddof=1) < 0.1 < block.var(ddof=1)
    assert score(luma) == pytest.approx(100 * (1 - block.var(ddof=1) + 1) / 2, rel=1e-6)


def test_noise_counts_by_its_variance():
    """White noise is busy everywhere, has no flat edges, and its middle columns vary as the others do."""
    luma = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    assert 40 < score(luma) < 90


@pytest.mark.parametrize(("size", "sharp", "blurred"), [(256, (25, 45), (80, 100)), (128, (20, 45), (55, 80))])
def test_a_sharp_photograph_and_a_blurred_one(size, sharp, blurred):
    """Another implementation of PIQE gives the photograph of 256 pixels 36, and 91 when it is blurred by 2 pixels."""
    face = read_astronaut(size)
    soft = cv2.GaussianBlur(face[0].permute(1, 2, 0).numpy(), (0, 0), 2)
    scores = piqe(torch.cat([face, torch.from_numpy(soft).permute(2, 0, 1)[None].clamp(0, 1)]))
    assert sharp[0] < scores[0] < sharp[1] and blurred[0] < scores[1] < blurred[1]


def test_any_size_and_each_picture_alone():
    pictures = batch(2, 3, 37, 50)
    together = piqe(pictures)
    assert together.tolist() == [piqe(pictures[:1]).item(), piqe(pictures[1:]).item()]


def test_refuses_what_is_no_picture():
    with pytest.raises(ValueError, match=r"`image` must lie in \[0, 1\]"):
        piqe(batch(1, 3, 16, 16) + 1)
