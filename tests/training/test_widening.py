import pytest
import torch
from diffusers import UNet2DModel

from difface_diffusers import DifFaceUNet2DModel
from difface_diffusers.training import widening
from difface_diffusers.training.widening import widen


def unet(channels, **changes):
    torch.manual_seed(len(channels))
    settings = {
        "sample_size": 16,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "norm_num_groups": 4,
        "attn_norm_num_groups": 4,
        "resnet_time_scale_shift": "scale_shift",
    }
    model = DifFaceUNet2DModel(block_out_channels=channels, **settings | changes).eval()
    for parameter in model.parameters():  # biases and norms begin as zeros and ones, which hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@torch.no_grad()
def answers(model, size=16):
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return model(image, torch.tensor([3, 700])).sample


def error(narrow, wide):
    expected = answers(narrow)
    return ((answers(wide) - expected).square().mean().sqrt() / expected.std()).item()


# The function


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers_per_block": 2},
        {"layers_per_block": (1, 2, 1)},
        {"resnet_time_scale_shift": "default"},
        {"out_channels": 6, "flip_sin_to_cos": False},
    ],
)
def test_the_function_is_kept(changes):
    narrow, wide = unet((8, 16, 24), **changes), unet((16, 32, 48), **changes)
    assert error(narrow, wide) > 0.5
    widen(narrow, wide)
    assert error(narrow, wide) < 1e-4


def test_one_level_alone_keeps_it_nearly():
    narrow, wide = unet((8, 16, 24)), unet((8, 32, 24))
    widen(narrow, wide)
    assert 1e-4 < error(narrow, wide) < 0.5


def test_widths_need_no_whole_factor():
    narrow, wide = unet((8, 16, 24)), unet((12, 24, 28))
    widen(narrow, wide)
    assert error(narrow, wide) < 0.5


def test_the_same_width_is_a_copy_at_another_size():
    narrow, wide = unet((8, 16, 24)), unet((8, 16, 24), sample_size=32)
    widen(narrow, wide)
    torch.testing.assert_close(answers(wide, 32), answers(narrow, 32), rtol=0, atol=1e-5)


def test_a_network_of_diffusers_can_be_widened():
    narrow = UNet2DModel.from_config(unet((8, 16, 24)).config).eval()
    wide = unet((16, 32, 48))
    widen(narrow, wide)
    assert error(narrow, wide) < 1e-4


def test_patches_stay():
    narrow, wide = (unet(channels, patch_size=2) for channels in ((8, 16, 24), (16, 32, 48)))
    widen(narrow, wide)
    assert error(narrow, wide) < 1e-4
    with pytest.raises(ValueError, match="`patch_size` is 2; it must be 1, as in the narrower network"):
        widen(unet((8, 16, 24)), wide)


@torch.no_grad()
def test_spare_channels_have_no_effect():
    """With whole groups of the last normalization, those of the others keep to themselves as far as it goes."""
    narrow, wide = unet((8, 16, 24)), unet((24, 32, 48))
    born = {name: value.clone() for name, value in wide.state_dict().items()}
    widen(narrow, wide, num_spare=6)
    assert error(narrow, wide) < 0.5
    resnet = f"{widening.last_resnet(wide)}.conv2"
    for name in ("conv_in.weight", "conv_in.bias", "conv_norm_out.weight", f"{resnet}.weight", f"{resnet}.bias"):
        value = wide.state_dict()[name]
        assert value[-6:].equal(born[name][-6:]) and not value[:-6].equal(born[name][:-6])
    expected = answers(wide)
    wide.conv_norm_out.weight[-6:] *= 9
    wide.state_dict()[f"{resnet}.weight"][-6:] *= 9
    assert torch.equal(answers(wide), expected)


@pytest.mark.parametrize(
    ("wide", "spare", "parts"),
    [
        (64, 12, [(20, 40), (12, 12), (0, 12)]),
        (64, 32, [(32, 32), (0, 0), (0, 32)]),
        (96, 12, [(20, 60), (12, 24), (0, 12)]),
    ],
)
def test_channels_beside_spare_ones_are_copied_as_often_as_there_is_room(wide, spare, parts):
    assert widening._with_spare(32, wide, spare) == parts
    assert len(widening._copies(parts)) == wide


def test_copies_can_grow_apart():
    """The gradients of two copies differ, because they are read in different proportions."""
    narrow, wide = unet((8, 16, 24)), unet((16, 32, 48))
    widen(narrow, wide)
    assert torch.equal(wide.conv_in.weight[0], wide.conv_in.weight[1])
    wide(torch.randn(1, 3, 16, 16), torch.tensor([3])).sample.square().mean().backward()
    first, second = wide.conv_in.weight.grad[:2]
    assert (first - second).abs().max() > 0.05 * first.abs().max()


def test_the_seed_decides_the_proportions():
    narrow, wide, other = unet((8, 16, 24)), unet((16, 32, 48)), unet((16, 32, 48))
    for model in (wide, other):
        torch.manual_seed(7)
        widen(narrow, model)
    assert all(torch.equal(a, b) for a, b in zip(wide.parameters(), other.parameters(), strict=True))


def test_no_copy_is_left_unread():
    shares = widening.share_inputs(torch.ones(40, 4, 1, 1), torch.arange(12) // 3)
    assert shares.min() > widening.SMALLEST_SHARE / 3.3
    torch.testing.assert_close(shares.reshape(40, 4, 3).sum(dim=2), torch.ones(40, 4))


# Errors


def test_refuses_a_narrower_target():
    with pytest.raises(ValueError, match=r"`block_out_channels` is \[8, 12, 24\]; \[8, 16, 24\] cannot be widened"):
        widen(unet((8, 16, 24)), unet((8, 12, 24)))


def test_refuses_another_architecture():
    with pytest.raises(ValueError, match="`layers_per_block` is 2; it must be 1, as in the narrower network"):
        widen(unet((8, 16, 24)), unet((8, 16, 24), layers_per_block=2))


def test_refuses_levels_that_become_alike():
    """Between levels of one width the wide network has no shortcut."""
    with pytest.raises(ValueError, match=r"`block_out_channels` is .*conv_shortcut.bias is in only one of the two"):
        widen(unet((8, 16, 24)), unet((8, 24, 24)))


def test_refuses_heads_of_any_width():
    narrow, wide = (unet(channels, attention_head_dim=None) for channels in ((8, 16, 24), (16, 32, 48)))
    with pytest.raises(ValueError, match="`attention_head_dim` is None; it must be a number"):
        widen(narrow, wide)
