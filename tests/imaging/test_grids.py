import numpy as np
import pytest
import torch

from difface_diffusers.evaluation import image_grid
from difface_diffusers.imaging.grids import GAP


def batch(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def cell(picture, column, row, rows, height, width):
    """The pixels of one image, located from the bottom so that the header's height does not matter."""
    top = picture.height - (rows - row) * (height + GAP)
    left = GAP + column * (width + GAP)
    return np.asarray(picture)[top : top + height, left : left + width]


# Shape and numbers


def test_every_image_is_in_its_cell_pixel_by_pixel():
    columns = {"input": batch(3, 3, 20, 30, seed=1), "clean": batch(3, 3, 20, 30, seed=2)}
    picture = image_grid(columns)
    assert picture.mode == "RGB"
    assert picture.width == GAP + 2 * (30 + GAP)
    for column, images in enumerate(columns.values()):
        for row, image in enumerate(images):
            expected = (image * 255).round().byte().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(cell(picture, column, row, 3, 20, 30), expected)


def test_blocks_go_on_beside_each_other():
    columns = {"input": batch(5, 3, 20, 30, seed=1), "clean": batch(5, 3, 20, 30, seed=2)}
    picture = image_grid(columns, blocks=2)
    blocks = [image_grid({name: images[rows] for name, images in columns.items()}) for rows in (np.s_[:3], np.s_[3:])]
    assert picture.width == 2 * blocks[0].width + 2 * GAP and picture.height == blocks[0].height
    for left, block in zip((0, blocks[0].width + 2 * GAP), blocks, strict=True):
        part = picture.crop((left, 0, left + block.width, block.height))
        np.testing.assert_array_equal(np.asarray(part), np.asarray(block))


def test_red_stays_red():
    red = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert (cell(image_grid({"red": red}), 0, 0, 1, 16, 16) == [255, 0, 128]).all()


def test_names_are_drawn_over_their_columns():
    images = torch.zeros(1, 3, 64, 64)
    header = np.asarray(image_grid({"": images, "restored": images}))[: -64 - GAP, :, 0]
    assert (header[:, : GAP + 64] == 255).all()
    assert (header[:, GAP + 64 + GAP :] < 128).any()


def test_a_long_name_stays_in_its_column():
    images = torch.zeros(1, 3, 64, 64)
    header = np.asarray(image_grid({"": images, "restored, 20 steps": images, " ": images}))[: -64 - GAP, :, 0]
    ink = np.flatnonzero((header < 255).any(axis=0))
    assert GAP + 64 <= ink.min() and ink.max() < 2 * (GAP + 64) + GAP


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_give_the_same_picture(dtype):
    images = batch(2, 3, 16, 16).mul(16).round().div(16)  # exact in bfloat16
    assert image_grid({"a": images.to(dtype).requires_grad_()}).tobytes() == image_grid({"a": images}).tobytes()


def test_leaves_its_argument_alone():
    images = batch(1, 3, 16, 16)
    kept = images.clone()
    image_grid({"a": images})
    assert torch.equal(images, kept)


# Errors


def test_refuses_an_empty_sheet():
    with pytest.raises(ValueError, match="`columns` is empty"):
        image_grid({})


def test_refuses_columns_that_do_not_match():
    with pytest.raises(ValueError, match=r"same shape, got .*'b': \[2, 3, 16, 16\]"):
        image_grid({"a": batch(1, 3, 16, 16), "b": batch(2, 3, 16, 16)})


def test_refuses_no_blocks():
    with pytest.raises(ValueError, match="`blocks` must be at least 1, got 0"):
        image_grid({"a": batch(1, 3, 16, 16)}, blocks=0)


def test_names_the_bad_column():
    with pytest.raises(ValueError, match=r"`clean` must lie in \[0, 1\], got \[-1, -0.5\]"):
        image_grid({"input": batch(1, 3, 16, 16), "clean": torch.linspace(-1, -0.5, 16).expand(1, 3, 16, 16)})
