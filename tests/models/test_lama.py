import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from difface_diffusers import LaMaEstimator
from difface_diffusers.models.estimator import diffuse


TINY = {"base_channels": 4, "num_downsamples": 2, "num_blocks": 2}


def tiny(**changes):
    torch.manual_seed(0)
    model = LaMaEstimator(**TINY | changes)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.8, 1.2)
    return model.eval()


def picture_and_mask(*size, batch=2):
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(batch, 1, *size, generator=generator) > 0.6).float()
    return torch.rand(batch, 3, *size, generator=generator) * (1 - mask), mask


class Reference:
    """The network once more, by the names of its weights and nothing else of it."""

    def __init__(self, weights):
        self.weights = weights

    def norm(self, x, name):
        mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        scale = self.weights[f"{name}.weight"] / (variance + 1e-5).sqrt()
        shift = self.weights[f"{name}.bias"]
        return ((x - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None]).relu()

    def conv(self, x, name, stride=1):
        weight = self.weights[f"{name}.weight"]
        border = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, 4 * [border], mode="reflect"), weight, self.weights.get(f"{name}.bias"), stride)

    def spectral(self, x, name):
        x = self.norm(self.conv(x, f"{name}.conv_in"), f"{name}.norm_in")
        root = (x.shape[-2] * x.shape[-1]) ** 0.5
        spectrum = torch.fft.fft2(x)[..., : x.shape[-1] // 2 + 1] / root
        both = torch.stack([spectrum.real, spectrum.imag], 2).reshape(len(x), -1, *spectrum.shape[-2:])
        both = self.norm(self.conv(both, f"{name}.conv_fourier"), f"{name}.norm_fourier")
        spectrum = torch.complex(both[:, 0::2].contiguous(), both[:, 1::2].contiguous())
        return self.conv(x + torch.fft.irfft2(spectrum, s=x.shape[-2:]) * root, f"{name}.conv_out")

    def fourier_conv(self, x_local, x_global, name, stride=1):
        out_local = self.conv(x_local, f"{name}.local_to_local", stride)
        if x_global is not None:
            out_local = out_local + self.conv(x_global, f"{name}.global_to_local")
        out_local = self.norm(out_local, f"{name}.norm_local")
        if f"{name}.local_to_global.weight" not in self.weights:
            return out_local, None
        out_global = self.conv(x_local, f"{name}.local_to_global", stride)
        if x_global is not None:
            out_global = out_global + self.spectral(x_global, f"{name}.global_to_global")
        return out_local, self.norm(out_global, f"{name}.norm_global")

    def __call__(self, image, mask, num_downsamples, num_blocks):
        parts = self.fourier_conv(torch.cat([image, mask], 1), None, "conv_in")
        for index in range(num_downsamples):
            parts = self.fourier_conv(*parts, f"down.{index}", stride=2)
        for index in range(num_blocks):
            inner = self.fourier_conv(*self.fourier_conv(*parts, f"blocks.{index}.conv1"), f"blocks.{index}.conv2")
            parts = [before + after for before, after in zip(parts, inner, strict=True)]
        x = torch.cat(parts, 1)
        for index in range(num_downsamples):
            weight, bias = self.weights[f"up.{index}.weight"], self.weights[f"up.{index}.bias"]
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
            x = self.norm(x, f"norm_up.{index}")
        return self.conv(x, "conv_out").sigmoid()[..., : image.shape[-2], : image.shape[-1]]


# Numbers


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (24, 40), (19, 30)])
@pytest.mark.parametrize("changes", [{}, {"num_downsamples": 1, "global_ratio": 0.5}, {"base_channels": 6}])
def test_answers_like_a_second_implementation(size, changes):
    model = tiny(**changes)
    image, mask = picture_and_mask(*size)
    counts = model.config.num_downsamples, model.config.num_blocks
    expected = Reference(model.state_dict())(image, mask, *counts)
    torch.testing.assert_close(model(image, mask), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_whole_face_is_seen_in_every_block():
    model = tiny(num_blocks=1)
    image, mask = picture_and_mask(64, 64, batch=1)
    changed = image.clone()
    changed[..., 0, 0] = 1 - changed[..., 0, 0]
    difference = (model(changed, mask) - model(image, mask)).abs().sum(1)
    assert difference[..., -1, -1] > 0


def test_has_as_many_parameters_as_the_original():
    with torch.device("meta"):
        model = LaMaEstimator()
    assert sum(parameter.numel() for parameter in model.parameters()) == 50_975_875


# Shapes and types


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 13), (8, 8), (33, 32)])
def test_answers_in_the_size_of_any_input(size):
    answer = tiny()(*picture_and_mask(*size))
    assert answer.shape == (2, 3, *size)
    assert (answer > 0).all() and (answer < 1).all()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_transforms_in_float32(dtype, monkeypatch):
    image, mask = picture_and_mask(16, 16)
    expected, model = tiny()(image, mask), tiny().to(dtype)
    seen = []
    rfft2, irfft2 = torch.fft.rfft2, torch.fft.irfft2
    monkeypatch.setattr(torch.fft, "rfft2", lambda x, **rest: seen.append(x.dtype) or rfft2(x, **rest))
    monkeypatch.setattr(torch.fft, "irfft2", lambda x, **rest: seen.append(x.dtype) or irfft2(x, **rest))
    answer = model(image.to(dtype), mask.to(dtype))
    assert set(seen) == {torch.float32, torch.complex64}
    assert answer.dtype is dtype
    torch.testing.assert_close(answer.float(), expected, rtol=0, atol=0.02)


@torch.no_grad()
def test_draws_x_n_for_an_image_and_its_mask():
    model, (image, mask) = tiny(), picture_and_mask(16, 16)
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02)
    x_n = model.sample_x_n(image, scheduler, 400, torch.Generator().manual_seed(0), mask=mask)
    expected = diffuse(model(image, mask), scheduler, 400, torch.Generator().manual_seed(0))
    assert torch.equal(x_n, expected)


@torch.no_grad()
def test_saves_and_loads(tmp_path):
    model, inputs = tiny(), picture_and_mask(9, 12)
    model.save_pretrained(tmp_path)
    loaded = LaMaEstimator.from_pretrained(tmp_path)
    assert loaded.config.base_channels == 4 and loaded.config.num_blocks == 2
    torch.testing.assert_close(loaded(*inputs), model(*inputs), rtol=0, atol=1e-6)


def test_every_weight_learns_with_and_without_checkpointing():
    image, mask = picture_and_mask(16, 16)
    gradients = []
    for checkpointing in (False, True):
        model = tiny()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(image, mask).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_channels": 0}, "`base_channels` is 0; it must be above 0"),
        ({"num_blocks": 0}, "`num_blocks` is 0"),
        ({"global_ratio": 0.0}, "`global_ratio` is 0.0, which makes 0 of 16 channels global"),
        ({"global_ratio": 1.0}, "`global_ratio` is 1.0, which makes 16 of 16"),
        ({"global_ratio": 0.2}, "makes 3 of 16 channels global; both parts need channels, and the global one an even"),
    ],
)
def test_refuses_a_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        LaMaEstimator(**TINY | changes)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ((2, 4, 8, 8), (2, 1, 8, 8), r"`image` has shape \[2, 4, 8, 8\]; it must be \[B,3,H,W\]"),
        ((2, 3, 8, 8), (1, 1, 8, 8), r"`mask` has shape \[1, 1, 8, 8\]; it must be \[2, 1, 8, 8\]"),
        ((2, 3, 8, 8), (2, 1, 8, 9), r"`mask` has shape \[2, 1, 8, 9\]"),
        ((2, 3, 8, 8), (2, 3, 8, 8), r"`mask` has shape \[2, 3, 8, 8\]"),
    ],
)
def test_refuses_inputs(image, mask, message):
    with pytest.raises(ValueError, match=message):
        tiny()(torch.rand(image), torch.rand(mask))
