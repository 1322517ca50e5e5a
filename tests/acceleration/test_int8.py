import pytest
import torch
from torch import nn

from difface_diffusers import DifFaceInpaintPipeline, DifFaceUNet2DModel, LaMaEstimator, SwinIREstimator
from difface_diffusers.acceleration import int8
from difface_diffusers.acceleration.int8 import quantize_int8, watch_inputs
from difface_diffusers.acceleration.int8_layers import Inputs, Int8Conv2d
from difface_diffusers.acceleration.int8_swinir import Int8SwinBlock
from difface_diffusers.acceleration.layouts import ChannelsLastGroupNorm
from difface_diffusers.acceleration.processor import ProcessorError
from difface_diffusers.models.swinir import SwinBlock
from tests.acceleration.int8_processors import needs_int8, wide_pipe
from tests.conftest import tiny_unet


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def pipe():
    return wide_pipe()


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


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pipeline_restores_nearly_as_in_floats(pipe, faces, dtype):
    expected = pipe(faces, generator=generator(), output_type="pt").images
    quantize_int8(pipe, faces, dtype)
    assert pipe.unet.dtype is pipe.estimator.dtype is dtype
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].conv1, Int8Conv2d)
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].norm1, ChannelsLastGroupNorm)
    assert isinstance(pipe.estimator.groups[0].blocks[1], Int8SwinBlock)
    assert type(pipe.unet.conv_in) is type(pipe.unet.conv_out) is nn.Conv2d
    answer = pipe(faces, generator=generator(), output_type="pt").images.float()
    assert 0 < (answer - expected).abs().mean() < 0.01


@needs_int8
@pytest.mark.parametrize(("out_channels", "patch_size"), [(3, 2), (6, 2), (3, 4)])
def test_what_takes_or_makes_pixels_of_patches_keeps_its_precision(pipe, faces, out_channels, patch_size):
    """Folded into channels, they are as many as those of other layers."""
    changes = {"block_out_channels": (16, 32), "patch_size": patch_size}
    pipe.register_modules(unet=tiny_unet(out_channels, DifFaceUNet2DModel, **changes))
    expected = pipe(faces, generator=generator(), output_type="pt").images
    quantize_int8(pipe, faces)
    assert type(pipe.unet.conv_in) is type(pipe.unet.conv_out) is nn.Conv2d
    assert isinstance(pipe.unet.down_blocks[0].resnets[0].conv1, Int8Conv2d)
    answer = pipe(faces, generator=generator(), output_type="pt").images
    assert 0 < (answer - expected).abs().mean() < 0.01


@needs_int8
def test_no_plain_convolution_is_left_in_the_estimator(pipe, faces):
    config = {**pipe.estimator.config, "embed_dim": 8, "image_skips": True}
    pipe.estimator = SwinIREstimator.from_config(config).eval()
    expected = pipe.estimator(faces)
    quantize_int8(pipe, faces)
    assert not any(isinstance(module, nn.Conv2d | nn.Linear | SwinBlock) for module in pipe.estimator.modules())
    assert (pipe.estimator(faces) - expected).abs().mean() < 0.01


@needs_int8
def test_faces_are_restored_with_noise_of_their_own(pipe, faces):
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    quantize_int8(pipe, torch.stack([faces[0], faces[0]]))
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
        quantize_int8(pipe, faces)


def test_only_a_pipeline_that_restores(pipe, faces):
    inpaint = DifFaceInpaintPipeline(
        pipe.unet, LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1), pipe.scheduler
    )
    with pytest.raises(TypeError, match="`pipe` fills holes"):
        quantize_int8(inpaint, faces)


def test_without_faces_nothing_is_changed(pipe):
    kinds = [type(module) for module in pipe.unet.modules()]
    with pytest.raises(ValueError, match="`faces` is empty"):
        quantize_int8(pipe, [])
    assert [type(module) for module in pipe.unet.modules()] == kinds


def test_where_8_bits_are_wrong_nothing_is_changed(pipe, faces, monkeypatch):
    def refuse():
        raise ProcessorError("wrong here")

    monkeypatch.setattr(int8, "largest_weight", refuse)
    kinds = [type(module) for network in (pipe.unet, pipe.estimator) for module in network.modules()]
    called = []
    pipe.unet.register_forward_pre_hook(lambda *_: called.append(None))
    with pytest.raises(ProcessorError, match="wrong here"):
        quantize_int8(pipe, faces)
    assert [type(module) for network in (pipe.unet, pipe.estimator) for module in network.modules()] == kinds
    assert not called


def test_with_an_untried_torch_nothing_is_changed(pipe, faces, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    kinds = [type(module) for network in (pipe.unet, pipe.estimator) for module in network.modules()]
    with pytest.raises(ImportError, match=r"experimental and made for torch .+ installed is torch 2\.99\.0"):
        quantize_int8(pipe, faces)
    assert [type(module) for network in (pipe.unet, pipe.estimator) for module in network.modules()] == kinds


@needs_int8
def test_what_counts_in_8_bits_is_not_saved_without_its_weights(pipe, faces, tmp_path):
    quantize_int8(pipe, faces)
    with pytest.raises(TypeError, match="can be neither saved nor copied; do that before `quantize_int8`"):
        pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@needs_int8
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

    quantize_int8(pipe, face, torch.bfloat16)
    eager = measure_error()
    pipe.estimator.compile()
    assert 0.5 * eager < measure_error() < 1.5 * eager


@needs_int8
@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_pipeline_restores_nearly_as_in_floats(pipe, faces):
    expected = pipe(faces, generator=generator(), output_type="pt").images
    quantize_int8(pipe, faces)
    pipe.unet.compile()
    pipe.estimator.compile()
    answer = pipe(faces, generator=generator(), output_type="pt").images
    assert 0 < (answer - expected).abs().mean() < 0.01
