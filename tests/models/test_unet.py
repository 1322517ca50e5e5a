import pytest
import torch
from diffusers import UNet2DModel

from difface_diffusers import DifFaceUNet2DModel


TINY = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (8, 16, 24),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 4,
    "attn_norm_num_groups": 4,
    "resnet_time_scale_shift": "scale_shift",
}


def tiny(layers_per_block, cls=DifFaceUNet2DModel, **changes):
    torch.manual_seed(0)
    return cls(**TINY | changes, layers_per_block=layers_per_block).eval()


def noisy(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Shape


@torch.no_grad()
def test_levels_have_their_own_number_of_layers():
    model = tiny((1, 3, 2))
    assert [len(block.resnets) for block in model.down_blocks] == [1, 3, 2]
    assert [len(block.resnets) for block in model.up_blocks] == [3, 4, 2]
    assert [len(block.attentions) for block in model.up_blocks[:2]] == [3, 4]
    assert model(noisy(2, 3, 16, 16), 396).sample.shape == (2, 6, 16, 16)


def test_convolutions_have_the_channels_of_their_skips():
    blocks = tiny((1, 3, 2)).up_blocks
    channels = [[(resnet.in_channels, resnet.out_channels) for resnet in block.resnets] for block in blocks]
    assert channels == [
        [(48, 24), (48, 24), (40, 24)],
        [(40, 16), (32, 16), (32, 16), (24, 16)],
        [(24, 8), (16, 8)],
    ]


@torch.no_grad()
def test_one_level_and_no_attention():
    one = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    assert tiny((2,), **one)(noisy(1, 3, 16, 16), 0).sample.shape == (1, 6, 16, 16)


# Numbers


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"time_embedding_dim": 20, "downsample_padding": 0, "norm_eps": 0.1, "act_fn": "relu"},
        {"downsample_type": "resnet", "upsample_type": "resnet", "attention_head_dim": None},
        {"resnet_time_scale_shift": "default", "dropout": 0.5, "add_attention": False},
    ],
)
def test_equal_layers_give_the_network_of_diffusers(changes):
    theirs, ours = tiny(2, UNet2DModel, **changes), tiny((2, 2, 2), **changes)
    ours.load_state_dict(theirs.state_dict())
    sample = noisy(2, 3, 16, 16)
    assert torch.equal(ours(sample, 396).sample, theirs(sample, 396).sample)
    dropouts = [
        [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] for model in (theirs, ours)
    ]
    assert sorted(dropouts[0]) == sorted(dropouts[1])


def test_an_integer_is_diffusers_own_case():
    theirs, ours = tiny(2, UNet2DModel), tiny(2)
    assert ours.config.layers_per_block == 2
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())


# Files


@torch.no_grad()
def test_saves_and_loads(tmp_path):
    model, sample = tiny((1, 3, 2)), noisy(1, 3, 16, 16)
    model.save_pretrained(tmp_path)
    loaded = DifFaceUNet2DModel.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert tuple(loaded.config.layers_per_block) == (1, 3, 2)
    torch.testing.assert_close(loaded(sample, 4).sample, model(sample, 4).sample, rtol=0, atol=1e-5)


# Errors


def test_refuses_another_number_of_levels():
    with pytest.raises(ValueError, match=r"`layers_per_block` has 2 entries \(\(1, 2\)\).* one entry per level, 3"):
        tiny((1, 2))
