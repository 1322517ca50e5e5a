import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.degradation.batched_filters import (
    convolve,
    fast_length,
    gaussian_kernels,
    pick_columns,
    pick_rows,
    resize,
    send,
)
from difface_diffusers.degradation.blind import gaussian_kernel

from ..training.tiny import face


CPU = torch.device("cpu")


def batch(*images):
    """Stack pictures [H,W,3] in [0,1] as a batch."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous()


def pictures(batch):
    return batch.permute(0, 2, 3, 1).numpy()


def faces(count, height, width):
    return [face(seed, height, width).astype(np.float32) / 255 for seed in range(count)]


def test_numbers_are_sent_in_single_precision():
    assert send(np.array([0.5, 2.0]), CPU).dtype == torch.float32
    assert send(np.array([3, 4]), CPU).tolist() == [3, 4]
    assert send(np.array([True, False]), CPU).dtype == torch.bool


# Filters


def test_kernels_are_those_of_the_one_by_one_path():
    sigma_x, sigma_y, angle = torch.tensor([[0.1, 3.0, 2.0], [0.1, 0.8, 5.5], [0.0, 0.7, -2.6]])
    kernels = gaussian_kernels(5, sigma_x, sigma_y, angle)
    for kernel, *settings in zip(kernels.numpy(), sigma_x, sigma_y, angle, strict=True):
        np.testing.assert_allclose(kernel, gaussian_kernel(5, *(float(value) for value in settings)), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(24, 31), (12, 40)])
def test_each_face_has_its_own_filter_and_mirrored_borders(height, width):
    images = faces(3, height, width)
    kernels = [gaussian_kernel(5, 0.4 + seed, 3.0, 0.7 * seed) for seed in range(3)]
    expected = [cv2.filter2D(image, -1, kernel) for image, kernel in zip(images, kernels, strict=True)]
    answer = convolve(batch(*images), torch.from_numpy(np.stack(kernels)))
    np.testing.assert_allclose(pictures(answer), np.stack(expected), atol=1e-5)


def test_fast_lengths_have_small_factors_only():
    assert [fast_length(least) for least in (1, 7, 13, 121, 276, 552)] == [1, 8, 15, 125, 288, 576]


# Resizing


@pytest.mark.parametrize("sizes", [(1, 2, 3), (16, 7, 11), (32, 40, 29)])
def test_shrinks_and_enlarges_as_opencv(sizes):
    images = faces(3, 32, 32)
    answer = resize(batch(*images), torch.full((3,), 32), 40, torch.tensor(sizes))
    for image, small, size in zip(images, pictures(answer), sizes, strict=True):
        np.testing.assert_allclose(small[:size, :size], cv2.resize(image, (size, size)), atol=1e-4)
        assert (small[size:] == small[size - 1 : size]).all() and (small[:, size:] == small[:, size - 1 : size]).all()


@pytest.mark.parametrize("sizes", [(1, 2, 3), (16, 7, 11), (32, 40, 29)])
def test_what_is_beside_the_squares_does_not_matter(sizes):
    images = faces(3, 40, 40)
    squares = [image[:size, :size] for image, size in zip(images, sizes, strict=True)]
    expected = [cv2.resize(square, (32, 32)) for square in squares]
    answer = resize(batch(*images), torch.tensor(sizes), 32, torch.full((3,), 32))
    np.testing.assert_allclose(pictures(answer), np.stack(expected), atol=1e-4)


def test_picks_rows_and_columns_of_each_image():
    images = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    rows, columns = torch.tensor([[3, 0, 0], [1, 2, 3]]), torch.tensor([[4, 4], [0, 2]])
    for index in range(2):
        assert pick_rows(images, rows)[index].equal(images[index][:, rows[index]])
        assert pick_columns(images, columns)[index].equal(images[index][:, :, columns[index]])
