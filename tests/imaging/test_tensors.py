import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.imaging.tensors import check_images, from_tensors, pil_to_tensor, resize, to_tensors


UNUSUAL_ARRAYS = {
    "big-endian float": lambda array: (array / 255).astype(">f4"),
    "big-endian double": lambda array: (array / 255).astype(">f8"),
    "half": lambda array: (array / 255).astype(np.float16),
    "long double": lambda array: array.astype(np.longdouble) / 255,
    "read-only": lambda array: read_only(array),
    "read-only float": lambda array: read_only((array / 255).astype(np.float32)),
    "read-only, channels first in memory": lambda array: np.moveaxis(
        read_only(np.moveaxis((array / 255).astype(np.float32), -1, 0).copy()), 0, -1
    ),
    "negative strides": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "every second row": lambda array: array.repeat(2, axis=0)[::2],
}
NOT_DENSE = {
    "torch.sparse_coo": lambda tensor: tensor.to_sparse(),
    "torch.sparse_csr": lambda tensor: tensor.to_sparse_csr(),
    "meta": lambda tensor: tensor.to("meta"),
    "nested": lambda tensor: torch.nested.as_nested_tensor(list(tensor)),
    "masked": lambda tensor: torch.masked.masked_tensor(tensor, tensor > 0),
}


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.fixture
def pixels():
    """An asymmetric picture [4,6,3]: no row, column or channel equals another."""
    return np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


class TestPil:
    def test_rgb(self, pixels):
        tensor = pil_to_tensor(Image.fromarray(pixels))
        assert tensor.dtype == torch.float32 and tensor.shape == (3, 4, 6)
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), pixels.astype(np.float32) / 255)

    @pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "CMYK", "YCbCr", "RGBa", "RGBX", "HSV"])
    def test_other_modes_look_the_same(self, pixels, mode):
        source = Image.fromarray(pixels).convert("L") if mode in ("L", "1", "LA") else Image.fromarray(pixels)
        picture = source.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else source.convert(mode)
        expected = picture.convert("RGB")
        difference = pil_to_tensor(picture) - pil_to_tensor(expected)
        assert difference.abs().max() == 0
        if mode not in ("1", "P", "YCbCr", "HSV"):
            np.testing.assert_array_equal(np.asarray(expected), np.asarray(source.convert("RGB")))

    def test_premultiplied_gray(self):
        tensor = pil_to_tensor(
            Image.merge("LA", [Image.new("L", (2, 1), 102), Image.new("L", (2, 1), 51)]).convert("La")
        )
        torch.testing.assert_close(tensor, torch.full((3, 1, 2), 0.4), rtol=0, atol=1.5 / 51)

    def test_lab(self):
        torch.testing.assert_close(
            pil_to_tensor(Image.new("LAB", (2, 1), (255, 128, 128))), torch.ones(3, 1, 2), rtol=0, atol=0.01
        )

    @pytest.mark.parametrize("brightest", [255, 256, 65535])
    def test_integers_are_of_8_bits_if_they_fit(self, brightest):
        levels = np.array([[0, 100, brightest]], np.int32)
        expected = torch.tensor(levels / (255 if brightest == 255 else 65535)).float().expand(3, 1, 3)
        torch.testing.assert_close(pil_to_tensor(Image.fromarray(levels)), expected)

    @pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
    def test_sixteen_bits_of_any_byte_order(self, mode):
        levels = np.array([[1, 256, 65535]])
        data = levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
        tensor = pil_to_tensor(Image.frombytes(mode, (3, 1), data))
        np.testing.assert_allclose(tensor.numpy(), np.stack([levels / 65535] * 3), atol=1e-7)

    def test_transparent_palette(self, pixels):
        picture = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)
        expected = pil_to_tensor(picture)
        picture.info["transparency"] = 0
        torch.testing.assert_close(pil_to_tensor(picture), expected)

    def test_sixteen_bits_keep_their_precision(self):
        levels = np.array([[0, 1, 256], [40000, 65534, 65535]], dtype=np.uint16)
        tensor = pil_to_tensor(Image.fromarray(levels))
        np.testing.assert_allclose(tensor.numpy(), np.stack([levels / 65535] * 3), atol=1e-7)

    def test_exif_orientation(self, pixels):
        picture = Image.fromarray(pixels)
        picture.getexif()[0x0112] = 6  # shown turned by 90 degrees clockwise
        expected = pil_to_tensor(Image.fromarray(np.rot90(pixels, -1)))
        torch.testing.assert_close(pil_to_tensor(picture), expected)

    @pytest.mark.parametrize(
        "picture, message",
        [
            (Image.new("F", (2, 2)), "mode F"),
            (Image.new("RGB", (0, 4)), r"size \(0, 4\)"),
            (Image.new("I", (2, 2), 70000), "outside 0 .. 65535"),
        ],
    )
    def test_errors(self, picture, message):
        with pytest.raises(ValueError, match=rf"`image` .*{message}"):
            pil_to_tensor(picture)


class TestToTensors:
    def test_every_form(self, pixels):
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
        floats = pixels.astype(np.float64) / 255
        for form in (Image.fromarray(pixels), pixels, floats, pixels[None], tensor, tensor[None].double(), [pixels],
                     (tensor,), torch.from_numpy(pixels).permute(2, 0, 1)):  # fmt: skip
            (result,) = to_tensors(form)
            torch.testing.assert_close(result, tensor)
        assert len(to_tensors([pixels, np.stack([pixels] * 2), tensor])) == 4

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("form", UNUSUAL_ARRAYS)
    def test_unusual_arrays(self, pixels, form):
        array = UNUSUAL_ARRAYS[form](pixels)
        before = array.copy()
        (result,) = to_tensors(array)
        expected = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-3 if form == "half" else 1e-7)
        result.zero_()
        np.testing.assert_array_equal(array, before)

    def test_unusual_tensors(self):
        tensor = torch.rand(3, 4, 6)
        for form in (tensor.clone().requires_grad_(), torch._neg_view(-tensor), tensor.mT.contiguous().mT):
            (result,) = to_tensors(form)
            assert torch.equal(result, tensor) and not result.requires_grad
        (result,) = to_tensors(tensor[:, :1].expand(3, 4, 6))
        assert torch.equal(result, tensor[:, :1].repeat(1, 4, 1))

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("kind", NOT_DENSE)
    def test_tensors_that_are_not_dense(self, kind):
        tensor = NOT_DENSE[kind](torch.rand(2, 3, 4, 6))
        with pytest.raises(TypeError, match=rf"`image` is a {kind} tensor; accepted is a dense one"):
            to_tensors(tensor)
        with pytest.raises(TypeError, match=rf"`reference` is a {kind} tensor; accepted is a dense one"):
            check_images({"reference": tensor})

    def test_masked_arrays(self, pixels):
        with pytest.raises(TypeError, match="`image` is a masked array; accepted is one without"):
            to_tensors(np.ma.masked_array(pixels, pixels > 20))

    def test_half_precision(self):
        (result,) = to_tensors(torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16))
        assert result.dtype == torch.float32

    @pytest.mark.parametrize(
        "image, message",
        [
            (np.zeros((4, 4), np.uint8), r"array of shape \[4, 4\]; accepted is \[H,W,3\]"),
            (np.zeros((3, 4, 4), np.uint8), r"array of shape \[3, 4, 4\]"),
            (np.zeros((4, 4, 3), np.int32), "array of int32; accepted is uint8, or float"),
            (np.zeros((4, 4, 3), object), "array of object"),
            (np.zeros((4, 4, 3), bool), "array of bool"),
            (np.zeros((4, 4, 3), ">u2"), "array of >u2"),
            (np.zeros((4, 4, 3), np.complex64), "array of complex64"),
            (np.zeros((0, 4, 3), np.uint8), "empty"),
            (torch.zeros(4, 4, 3), r"tensor of shape \[4, 4, 3\]; accepted is \[3,H,W\]"),
            (torch.zeros(1, 1, 4, 4), r"tensor of shape \[1, 1, 4, 4\]"),
            (torch.zeros(3, 4, 4, dtype=torch.int64), "tensor of torch.int64"),
            (torch.full((3, 4, 4), 255.0), "values from 255 to 255; float images must lie in"),
            (torch.full((3, 4, 4), -0.1), "values from -0.1"),
            (torch.full((3, 4, 4), float("nan")), "values from nan"),
            ([], "empty list"),
        ],
    )
    def test_wrong_values(self, image, message):
        with pytest.raises(ValueError, match=message):
            to_tensors(image)

    @pytest.mark.parametrize("image", [None, "face.png", 5, b"bytes", ["face.png"]])
    def test_wrong_types(self, image):
        with pytest.raises(TypeError, match="accepted is a PIL image"):
            to_tensors(image)


class TestResize:
    def test_leaves_the_right_size_alone(self):
        image = torch.rand(1, 3, 4, 6)
        assert resize(image, (4, 6)) is image

    def test_height_comes_first(self):
        assert resize(torch.rand(1, 3, 4, 6), (8, 3)).shape == (1, 3, 8, 3)

    def test_is_antialiased(self):
        stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
        assert (resize(stripes, (8, 8)) - 0.5)[..., 1:-1].abs().max() < 0.05

    def test_keeps_a_ramp(self):
        ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
        torch.testing.assert_close(
            resize(ramp, (64, 16))[..., 4:-4], resize(ramp, (16, 16))[..., :1, 4:-4].expand(-1, -1, 64, -1)
        )


class TestFromTensors:
    def test_round_trip(self, pixels):
        tensors = to_tensors(pixels)
        (picture,) = from_tensors(tensors, "pil")
        np.testing.assert_array_equal(np.asarray(picture), pixels)

    def test_rounds_half_to_even(self):
        (picture,) = from_tensors([torch.tensor([0.5, 1.5, 2.5]).div(255).view(3, 1, 1)], "pil")
        assert picture.getpixel((0, 0)) == (0, 2, 2)

    @pytest.mark.parametrize("output_type, stacked", [("np", (2, 4, 6, 3)), ("pt", (2, 3, 4, 6))])
    def test_stacks_what_has_one_size(self, output_type, stacked):
        image, other = torch.rand(3, 4, 6), torch.rand(3, 5, 6)
        assert from_tensors([image, image], output_type).shape == stacked
        first, second = from_tensors([image, other], output_type)
        assert first.shape == stacked[1:] and second.shape != first.shape
