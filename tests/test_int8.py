import pytest
import torch
import torch.nn.functional as F
from torch import nn

from difface_diffusers import (
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SwinIREstimator,
)
from difface_diffusers.channels_last import ChannelsLastGroupNorm
from difface_diffusers.int8 import count_in_int8, watch_inputs
from difface_diffusers.int8_layers import Inputs, Int8Conv2d, Int8Linear
from difface_diffusers.int8_swinir import Int8SwinBlock
from difface_diffusers.models.swinir import SwinBlock
from tests.conftest import ddim, tiny_unet


def in_int8(layer, inputs):
    return Int8Linear(layer, inputs) if isinstance(layer, nn.Linear) else Int8Conv2d(layer, inputs)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def pipe():
    """A pipeline of layers wide enough."""
    unet = tiny_unet(block_out_channels=(16, 32))
    estimator = SwinIREstimator(embed_dim=16, depths=(2,), num_heads=(2,), scale=2, window_size=4, num_feat=16).eval()
    pipe = DifFacePipeline(unet, estimator, ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


LAYERS = {
    "convolution": (lambda: nn.Conv2d(16, 24, 3, padding=1), (2, 16, 9, 7)),
    "strided": (lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1), (1, 16, 8, 8)),
    "without bias": (lambda: nn.Conv2d(16, 24, 1, bias=False), (1, 16, 8, 8)),
    "pointwise": (lambda: nn.Conv2d(16, 24, 1), (2, 16, 4, 3)),
    "linear": (lambda: nn.Linear(16, 24), (2, 5, 16)),
    "linear on a map": (lambda: nn.Linear(16, 24, bias=False), (2, 4, 3, 16)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_answers_nearly_as_in_floats(name, dtype):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, values = make(), torch.randn(shape)
    inputs = Inputs(values.shape, values.min().item(), values.max().item())
    with torch.no_grad():
        expected, answer = layer(values), in_int8(layer, inputs)(values.to(dtype))
    assert answer.dtype is dtype and answer.shape == expected.shape
    error = (answer.float() - expected).square().mean().sqrt() / expected.std()
    assert 0.001 < error < 0.02


@torch.no_grad()
def test_integers_are_what_the_formula_says():
    layer = nn.Linear(16, 16, bias=False)
    layer.weight.copy_(torch.eye(16) * torch.arange(1, 17).float()[:, None])  # largest weight of each channel: 127
    integers = in_int8(layer, Inputs(torch.Size([1, 1, 16]), -1.0, 4.1))  # steps of 0.02, 50 is zero
    values = torch.linspace(-2, 5, 16)
    expected = ((values / 0.02).round() + 50).clamp(0, 255) - 50
    torch.testing.assert_close(integers(values[None, None])[0, 0], 0.02 * expected * torch.arange(1, 17))


@torch.no_grad()
def test_a_layer_takes_other_shapes_than_that_it_was_laid_out_for():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, padding=1)
    values = torch.randn(3, 16, 12, 10)
    inputs = Inputs(torch.Size([1, 16, 8, 8]), values.min().item(), values.max().item())
    torch.testing.assert_close(in_int8(layer, inputs)(values), layer(values), atol=0.05, rtol=0)


@torch.no_grad()
def test_what_is_always_0_stays_0():
    layer = nn.Conv2d(16, 16, 1)
    layer.weight.zero_()
    answer = in_int8(layer, Inputs(torch.Size([1, 16, 2, 2])))(torch.zeros(1, 16, 2, 2))
    torch.testing.assert_close(answer, layer(torch.zeros(1, 16, 2, 2)))


@torch.no_grad()
def test_a_linear_layer_is_fused_with_what_follows():
    torch.manual_seed(0)
    values, added = torch.randn(5, 16), torch.randn(5, 24)
    first, second = nn.Linear(16, 24), nn.Linear(24, 24)
    hidden = F.gelu(first(values))
    one = Int8Linear(first, Inputs(values.shape, values.min().item(), values.max().item()))
    two = Int8Linear(second, Inputs(hidden.shape, hidden.min().item(), hidden.max().item()))
    integers = one.count_for(two, one.round(values), "gelu")
    assert integers.dtype is torch.uint8
    assert (integers.int() - two.round(F.gelu(one(values))).int()).abs().max() <= 1
    torch.testing.assert_close(
        two.count(integers, torch.float32, added=added), second(hidden) + added, atol=0.03, rtol=0
    )


@torch.no_grad()
def test_what_layers_take_is_watched():
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 1), nn.Flatten(), nn.Linear(32, 16))
    network.append(nn.Unflatten(1, (16, 1, 1))).append(nn.Conv2d(16, 16, 1))
    network[1].weight.zero_()
    calls = [torch.full((2, 3, 1, 1), value) for value in (-2.0, 3.0, 0.1)]
    taken = torch.cat([network[0](call) for call in calls])
    with watch_inputs(network, 16, ["5"]) as inputs:
        for call in calls:
            network(call)
    assert set(inputs) == {"1"}  # not the one that takes pixels, nor the one that takes a vector, nor that left out
    assert inputs["1"] == Inputs(torch.Size([2, 16, 1, 1]), min(taken.min().item(), 0), max(taken.max().item(), 0))
    assert not network[1]._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pipeline_restores_nearly_as_in_floats(pipe, faces, dtype):
    expected = pipe(faces, generator=generator(), output_type="pt").images
    count_in_int8(pipe, faces, dtype)
    assert pipe.unet.dtype is pipe.estimator.dtype is dtype
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].conv1, Int8Conv2d)
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].norm1, ChannelsLastGroupNorm)
    assert isinstance(pipe.estimator.groups[0].blocks[1], Int8SwinBlock)
    assert type(pipe.unet.conv_in) is type(pipe.unet.conv_out) is nn.Conv2d
    answer = pipe(faces, generator=generator(), output_type="pt").images.float()
    assert 0 < (answer - expected).abs().mean() < 0.01


@pytest.mark.parametrize(("out_channels", "patch_size"), [(3, 2), (6, 2), (3, 4)])
def test_what_takes_or_makes_pixels_of_patches_keeps_its_precision(pipe, faces, out_channels, patch_size):
    """Folded into channels, they are as many as those of other layers."""
    changes = {"block_out_channels": (16, 32), "patch_size": patch_size}
    pipe.register_modules(unet=tiny_unet(out_channels, DifFaceUNet2DModel, **changes))
    expected = pipe(faces, generator=generator(), output_type="pt").images
    count_in_int8(pipe, faces)
    assert type(pipe.unet.conv_in) is type(pipe.unet.conv_out) is nn.Conv2d
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].conv1, Int8Conv2d)
    answer = pipe(faces, generator=generator(), output_type="pt").images
    assert 0 < (answer - expected).abs().mean() < 0.01


def test_no_plain_convolution_is_left_in_the_estimator(pipe, faces):
    config = {**pipe.estimator.config, "embed_dim": 8, "image_skips": True}
    pipe.estimator = SwinIREstimator.from_config(config).eval()
    expected = pipe.estimator(faces)
    count_in_int8(pipe, faces)
    assert not any(isinstance(module, nn.Conv2d | nn.Linear | SwinBlock) for module in pipe.estimator.modules())
    assert (pipe.estimator(faces) - expected).abs().mean() < 0.01


def test_faces_are_restored_with_noise_of_their_own(pipe, faces):
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    count_in_int8(pipe, torch.stack([faces[0], faces[0]]))
    assert len(seen) == 8
    assert (seen[0] - seen[4]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda pipe: pipe.to(torch.bfloat16),
            r"`pipe` is on cpu in torch.bfloat16; it must be on the CPU in torch.fl",
        ),
        (lambda pipe: pipe.to("meta"), "`pipe` is on meta"),
    ],
)
def test_only_single_precision_on_the_cpu(pipe, faces, change, message):
    change(pipe)
    with pytest.raises(ValueError, match=message):
        count_in_int8(pipe, faces)


def test_only_a_pipeline_that_restores(pipe, faces):
    inpaint = DifFaceInpaintPipeline(
        pipe.unet, LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1), pipe.scheduler
    )
    with pytest.raises(TypeError, match="`pipe` fills holes"):
        count_in_int8(inpaint, faces)


def test_without_faces_nothing_is_changed(pipe):
    names = {name for name, _ in pipe.unet.named_parameters()}
    with pytest.raises(ValueError, match="`faces` is empty"):
        count_in_int8(pipe, [])
    assert {name for name, _ in pipe.unet.named_parameters()} == names


@torch.no_grad()
@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_estimator_errs_no_more_than_the_eager_one(pipe):
    pipe.estimator = SwinIREstimator(
        embed_dim=96, depths=(2,), num_heads=(4,), scale=2, window_size=8, num_feat=16, image_skips=True
    ).eval()
    for parameter in pipe.estimator.parameters():  # each part of the answer counts
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator()))
    face = torch.rand(1, 3, 32, 32, generator=generator())
    expected = pipe.estimator(face)

    def measure_error():
        return (pipe.estimator(face.bfloat16()) - expected).square().mean().sqrt()

    count_in_int8(pipe, face, torch.bfloat16)
    eager = measure_error()
    pipe.estimator.compile()
    assert 0.5 * eager < measure_error() < 1.5 * eager


@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_pipeline_restores_nearly_as_in_floats(pipe, faces):
    expected = pipe(faces, generator=generator(), output_type="pt").images
    count_in_int8(pipe, faces)
    pipe.unet.compile()
    pipe.estimator.compile()
    answer = pipe(faces, generator=generator(), output_type="pt").images
    assert 0 < (answer - expected).abs().mean() < 0.01
