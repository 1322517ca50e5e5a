import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.evaluation import niqe
from difface_diffusers.evaluation.niqe import _fit, load_pristine_model
from tests.evaluation.test_metrics import batch, read_astronaut


# What `basicsr.metrics.niqe` of BasicSR 1.4.2 answers, in float64, to the clean faces of `pairs` and to the degraded ones.
BASICSR_CLEAN = [
    *(4.9195, 4.6682, 5.4815, 5.6220, 4.8476, 4.8339, 5.7304, 5.6743, 4.8396, 4.7501),
    *(5.6830, 5.6490, 4.8733, 4.9205, 5.5105, 5.5285, 4.9473, 4.6595, 5.7366, 5.7196),
]
BASICSR_DEGRADED = [
    *(20.3124, 16.9502, 7.0519, 14.1122, 12.9949, 6.2476, 19.7932, 5.2738, 19.9733, 16.3102),
    *(21.6268, 11.6351, 17.8606, 20.0551, 8.3721, 18.7545, 6.8881, 17.7604, 16.4122, 16.3610),
]


def test_agrees_with_basicsr(pairs):
    """To 3 %: in flat areas signs of rounding errors count as features, so no two implementations are nearer there."""
    images, references = pairs
    assert niqe(images).tolist() == pytest.approx(BASICSR_DEGRADED, rel=0.03)
    values = niqe(references)
    assert values.dtype == torch.float64 and values.tolist() == pytest.approx(BASICSR_CLEAN, rel=0.03)


def test_blur_and_noise_are_unnatural():
    face = read_astronaut(256)
    soft = torch.from_numpy(cv2.GaussianBlur(face[0].permute(1, 2, 0).numpy(), (0, 0), 2)).permute(2, 0, 1)[None]
    noisy = face + 0.1 * torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    clean, blurred, with_noise = niqe(torch.cat([face, soft, noisy]).clamp(0, 1)).tolist()
    assert clean < 6 and blurred > clean + 3 and with_noise > clean + 1


@pytest.mark.parametrize(("draw", "shape"), [("normal", 2.0), ("laplace", 1.0)])
def test_the_fit_finds_shape_and_width(draw, shape):
    """Width is that of exp(-|x / width|^shape); the second's left side is three times as wide, so three times as likely."""
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(2, 400, 400))
    values[1] = np.abs(values[1]) * np.where(rng.random((400, 400)) < 0.75, -3, 1)
    width = 2**0.5 if draw == "normal" else 1.0
    shapes, left, right = _fit(values)
    assert shapes == pytest.approx([shape, shape], rel=0.03)
    assert left == pytest.approx([width, 3 * width], rel=0.03) and right == pytest.approx([width, width], rel=0.03)


def test_the_pristine_model_is_a_gaussian_of_36_features():
    mean, covariance = load_pristine_model()
    assert mean.shape == (36,) and covariance.shape == (36, 36)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_what_fills_no_block_is_left_out():
    picture = batch(1, 3, 192, 192)
    padded = torch.cat([picture, batch(1, 3, 192, 50, seed=1)], dim=-1)
    assert niqe(padded).item() == pytest.approx(niqe(picture).item(), rel=1e-9)


@pytest.mark.parametrize("size", [(96, 191), (95, 400)])
def test_refuses_less_than_two_blocks(size):
    with pytest.raises(ValueError, match=r"`image` must hold two blocks of 96 x 96 pixels, got \[1, 3, "):
        niqe(batch(1, 3, *size))
    assert niqe(batch(1, 3, 96, 192)).isfinite().all()
