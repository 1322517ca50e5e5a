import io

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.degradation.batched_jpeg import CHROMA_STEPS, LUMA_STEPS, jpeg_tables, roundtrip, scaled
from difface_diffusers.degradation.jpeg import jpeg

from ..training.tiny import face


TABLES = jpeg_tables(torch.device("cpu"))


def compressed(pictures, qualities, canvas=48, filling=200.0):
    """Pass pictures [s,s,3], uint8, through the batch; what is beside them is filled."""
    levels = torch.full((len(pictures), 3, canvas, canvas), filling)
    for image, picture in zip(levels, pictures, strict=True):
        image[:, : len(picture), : len(picture)] = torch.from_numpy(picture).permute(2, 0, 1)
    sizes = torch.tensor([len(picture) for picture in pictures])
    answers = roundtrip(levels, sizes, torch.tensor(qualities), TABLES).permute(0, 2, 3, 1).numpy()
    return [answer[: len(picture), : len(picture)] for answer, picture in zip(answers, pictures, strict=True)]


def differences(pictures, qualities, **canvas):
    return [
        np.abs(answer - 255 * jpeg(picture.astype(np.float32) / 255, quality))
        for answer, picture, quality in zip(
            compressed(pictures, qualities, **canvas), pictures, qualities, strict=True
        )
    ]


def noisy(seed, size, sigma=12):
    pixels = face(seed, size, size) + sigma * np.random.default_rng(seed).standard_normal((size, size, 3))
    return pixels.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("sizes", [range(1, 25), range(25, 49)])
def test_the_answer_is_that_of_libjpeg_at_every_size(sizes):
    pictures = [noisy(size, size) for size in sizes]
    errors = differences(pictures, [30 + 70 * size // 48 for size in sizes])
    means = [error.mean() for error in errors]
    assert np.mean(means) < 0.3 and np.median(means) < 0.25
    assert np.max(means) < 4  # a tiny face is one block, of which a coefficient may be rounded otherwise


@pytest.mark.parametrize("quality", [1, 12, 49, 50, 51, 75, 96, 100])
def test_the_answer_is_that_of_libjpeg_at_every_quality(quality):
    pictures = [noisy(seed, 48) for seed in range(4)]
    errors = np.stack(differences(pictures, [quality] * 4))
    assert errors.mean() < 0.4
    assert np.median(errors) <= 1


def test_faces_do_not_know_of_each_other():
    pictures, qualities = [noisy(0, 48), noisy(1, 19), noisy(2, 3)], [40, 90, 5]
    together = compressed(pictures, qualities)
    for picture, quality, answer in zip(pictures, qualities, together, strict=True):
        np.testing.assert_array_equal(compressed([picture], [quality], filling=0.0)[0], answer)


def test_gray_stays_gray_and_flat_stays_flat():
    gray = np.repeat(noisy(3, 32)[..., :1], 3, axis=-1)
    flat = np.full((17, 17, 3), 93, np.uint8)
    first, second = compressed([gray, flat], [60, 100])
    assert (first[..., 0] == first[..., 1]).all() and (first[..., 0] == first[..., 2]).all()
    np.testing.assert_array_equal(second, flat)


@pytest.mark.parametrize("quality", [1, 30, 50, 77, 100])
def test_the_steps_are_those_that_pillow_writes(quality):
    buffer = io.BytesIO()
    Image.fromarray(noisy(0, 16)).save(buffer, "JPEG", quality=quality)
    written = Image.open(buffer).quantization
    scale = torch.tensor([[5000 // quality if quality < 50 else 200 - 2 * quality]])
    assert scaled(TABLES.luma, scale)[0].tolist() == list(written[0])
    assert scaled(TABLES.chroma, scale)[0].tolist() == list(written[1])
    assert np.shape(LUMA_STEPS) == np.shape(CHROMA_STEPS) == (8, 8)


def test_the_transform_is_orthonormal_and_begins_with_the_mean():
    torch.testing.assert_close(TABLES.transform @ TABLES.transform.T, torch.eye(64), rtol=0, atol=1e-6)
    torch.testing.assert_close(TABLES.transform[0], torch.full((64,), 1 / 8))
    second = TABLES.transform[1].view(8, 8)
    assert (second == second[:1]).all() and (second.diff(dim=1) < 0).all()  # it changes along a row
