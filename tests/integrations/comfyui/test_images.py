import numpy as np
import pytest
import torch

from tests.photos.test_restore import picture


LEVELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


@pytest.fixture
def images(part):
    return part("images")


def load_image(pixels):
    """What ComfyUI's LoadImage answers for a file of 8 bits."""
    return torch.from_numpy(pixels.astype(np.float32) / 255.0)[None]


def save_image(image):
    """What ComfyUI's SaveImage writes."""
    return np.clip(255.0 * image.numpy(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [3, 4])
def test_levels_of_8_bits_are_handed_on_and_back_exactly(images, channels):
    pixels = np.stack([np.roll(LEVELS, shift) for shift in range(channels)], axis=-1)
    (photo,) = images.to_photos(load_image(pixels))
    assert photo.dtype == np.uint8 and np.array_equal(photo, pixels)
    assert np.array_equal(save_image(images.to_image([photo]))[0], pixels)


def test_finer_levels_are_kept(images):
    fine = torch.from_numpy(picture(dtype=np.uint16).astype(np.float32) / 65535)
    coarse = load_image(picture())[0]
    first, second = images.to_photos(torch.stack([fine, coarse]))
    assert first.dtype == np.float32 and np.array_equal(first, fine) and second.dtype == np.uint8
    assert torch.equal(images.to_image([first]), fine[None])


def test_what_lies_outside_is_clipped_as_comfyui_does(images):
    (photo,) = images.to_photos(torch.tensor([[[[-0.1, 0.4321, 1.2]]]]))
    assert photo.tolist() == [[[0, pytest.approx(0.4321), 1]]]


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 1), (1, 3, 8, 8), (0, 4, 4, 3)])
def test_an_image_of_another_shape_is_refused(images, shape):
    with pytest.raises(ValueError, match=r"`image` is of shape .*; accepted is \[B,H,W,3\] or \[B,H,W,4\]"):
        images.to_photos(torch.zeros(shape))


def test_what_is_no_number_is_refused(images):
    with pytest.raises(ValueError, match="`image` holds values that are no numbers"):
        images.to_photos(torch.full((1, 2, 2, 3), torch.nan))


def test_a_mask_for_all_or_for_each(images):
    one, two = torch.zeros(2, 5, 6).bernoulli(0.5), torch.ones(5, 6)
    assert [mask.shape for mask in images.to_masks(two, 3)] == [(5, 6)] * 3
    first, second = images.to_masks(one, 2)
    assert np.array_equal(first, one[0]) and np.array_equal(second, one[1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 4, 4), "`mask` holds 2 masks for 3 images; it must hold 1 or 3"),
        (
            torch.zeros(1, 64, 64),
            "`mask` marks nothing; paint over what is to be filled",
        ),  # LoadImage's, without alpha
        (torch.ones(1, 1, 4, 4), r"`mask` is of shape \[1, 1, 4, 4\]; accepted is \[B,H,W\]"),
    ],
)
def test_a_mask_that_cannot_be_used(images, mask, message):
    with pytest.raises(ValueError, match=message):
        images.to_masks(mask, 3)
