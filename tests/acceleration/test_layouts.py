import pytest
import torch
from torch import nn

from difface_diffusers import DifFacePipeline, SwinIREstimator
from difface_diffusers.acceleration.layouts import ChannelsLastGroupNorm, RowsLayerNorm, to_channels_last


def laid_out(norm):
    network = nn.Sequential(norm)
    to_channels_last(network)
    return network[0]


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 12, 5, 7), (2, 12, 9)])
def test_the_group_norm_is_torchs(shape):
    torch.manual_seed(0)
    norm = nn.GroupNorm(3, 12, eps=1e-4)
    norm.weight.normal_(), norm.bias.normal_()
    mine = laid_out(norm)
    assert type(mine) is ChannelsLastGroupNorm
    values = 3 * torch.randn(shape) + 2
    expected = norm(values)
    torch.testing.assert_close(mine(values), expected, atol=1e-5, rtol=1e-5)
    halves = mine.to(torch.bfloat16)(values.bfloat16())
    assert halves.dtype is torch.bfloat16
    torch.testing.assert_close(halves.float(), expected, atol=0.05, rtol=0.02)


@torch.no_grad()
def test_the_layer_norm_is_torchs():
    torch.manual_seed(0)
    norm = nn.LayerNorm(12, eps=1e-4)
    norm.weight.normal_(), norm.bias.normal_()
    mine = laid_out(norm)
    assert type(mine) is RowsLayerNorm
    values = 3 * torch.randn(2, 5, 7, 12) + 2
    torch.testing.assert_close(mine(values), norm(values), atol=1e-5, rtol=1e-5)
    halves = mine(values.bfloat16())
    assert halves.dtype is torch.bfloat16
    torch.testing.assert_close(halves.float(), norm(values), atol=0.05, rtol=0.02)


def test_a_pipeline_restores_and_is_saved_as_before(pipe, faces, tmp_path):
    torch.manual_seed(0)
    estimator = SwinIREstimator(embed_dim=16, depths=(2,), num_heads=(2,), scale=2, window_size=4, num_feat=16)
    pipe.register_modules(estimator=estimator.eval())

    def restore(pipe):
        return pipe(faces, generator=torch.Generator().manual_seed(0), output_type="pt").images

    expected = restore(pipe)
    for network in (pipe.unet, pipe.estimator):
        to_channels_last(network)
        modules = list(network.modules())
        assert not any(type(module) in (nn.GroupNorm, nn.LayerNorm) for module in modules)
        assert any(isinstance(module, ChannelsLastGroupNorm | RowsLayerNorm) for module in modules)
    assert pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(restore(pipe), expected, atol=1e-4, rtol=0)

    pipe.save_pretrained(tmp_path)
    again = DifFacePipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again.unet.conv_norm_out) is nn.GroupNorm
    torch.testing.assert_close(restore(again), expected, atol=1e-4, rtol=0)


def test_what_is_compiled_is_kept_apart_from_other_processors(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "VSX")
    for tag, expected in (("", "VSX"), ("mine", "mine")):
        with torch.compiler.config.patch(cache_key_tag=tag):
            to_channels_last(nn.Conv2d(3, 3, 1))
            assert torch.compiler.config.cache_key_tag == expected
