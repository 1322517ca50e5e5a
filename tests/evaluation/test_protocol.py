import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.evaluation.protocol import luma, read_image
from difface_diffusers.imaging.files import write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile


def test_an_image_is_upright_rgb_of_8_bits(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png")
    assert image.shape == (1, 3, 5, 7) and image.dtype == torch.float32
    np.testing.assert_array_equal((image[0] * 255).permute(1, 2, 0).numpy().round(), pixels)


def test_16_bits_are_rounded_and_alpha_is_left_out(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint16)
    pixels[..., 1], pixels[..., 2], pixels[..., 3] = 300, 65535, 9
    write_photo(PhotoFile(pixels, Metadata()), tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png")[0, :, 0, 0] * 255).tolist() == [0, 1, 255]


def test_gray_has_three_equal_channels(tmp_path):
    Image.fromarray(np.full((3, 4), 51, np.uint8)).save(tmp_path / "gray.png")
    assert torch.equal(read_image(tmp_path / "gray.png"), torch.full((1, 3, 3, 4), 0.2))


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(OSError, match=r"notes\.png cannot be read as an image"):
        read_image(tmp_path / "notes.png")


def test_luma_spans_the_studio_range():
    colors = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]).view(1, 3, 1, 3)
    values = luma(colors)
    assert values.dtype == torch.float64 and values.shape == (1, 1, 1, 3)
    assert values.flatten().tolist() == pytest.approx([16, 235, 81.481], abs=1e-3)
