import json

import pytest
import torch
from diffusers import UNet2DModel

from difface_diffusers import DifFaceUNet2DModel
from difface_diffusers.acceleration.layouts import to_channels_last


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


@pytest.mark.parametrize(("patch_size", "channels"), [(1, 3), (2, 12), (4, 48)])
@torch.no_grad()
def test_the_config_is_that_of_the_picture(patch_size, channels):
    model = tiny((1, 3, 2), patch_size=patch_size)
    assert (model.conv_in.in_channels, model.conv_out.out_channels) == (channels, 2 * channels)
    settings = model.config.sample_size, model.config.in_channels, model.config.out_channels, model.config.patch_size
    assert settings == (16, 3, 6, patch_size)
    assert model.sample_size == 16
    assert model(noisy(2, 3, 16, 32), 396).sample.shape == (2, 6, 16, 32)


# Numbers


@torch.no_grad()
@pytest.mark.parametrize("layers_per_block", [1, (1, 1, 1)])
@pytest.mark.parametrize("patch_size", [2, 4])
def test_a_patch_is_the_channels_of_one_pixel(layers_per_block, patch_size):
    ours, area = tiny(layers_per_block, patch_size=patch_size), patch_size**2
    theirs = tiny(1, UNet2DModel, in_channels=3 * area, out_channels=6 * area)
    ours.load_state_dict(theirs.state_dict())
    sample, answer = noisy(2, 3, 16, 16), torch.empty(2, 6, 16, 16)
    places = [(slice(None), slice(None), slice(row, None, patch_size), slice(column, None, patch_size))
              for row in range(patch_size) for column in range(patch_size)]  # fmt: skip
    folded = torch.stack([sample[place] for place in places], dim=2).flatten(1, 2)
    parts = theirs(folded, torch.tensor([3, 700])).sample.unflatten(1, (6, area)).unbind(2)
    for place, part in zip(places, parts, strict=True):
        answer[place] = part
    assert torch.equal(ours(sample, torch.tensor([3, 700])).sample, answer)
    assert torch.equal(ours(sample, torch.tensor([3, 700]), return_dict=False)[0], answer)


@torch.no_grad()
def test_the_first_three_channels_stay_epsilon():
    """With two answers a channel, epsilon and the variance, the same network without the variance has the first ones."""
    six, three = tiny(1, patch_size=2), tiny(1, patch_size=2, out_channels=3)
    three.load_state_dict(
        {name: value[:12] if "conv_out" in name else value for name, value in six.state_dict().items()}
    )
    sample = noisy(1, 3, 16, 16)
    torch.testing.assert_close(six(sample, 3).sample[:, :3], three(sample, 3).sample)


@torch.no_grad()
def test_classes_and_other_embeddings_of_time():
    changes = {"num_class_embeds": 5, "time_embedding_type": "fourier", "center_input_sample": True}
    model = tiny(1, patch_size=2, **changes)
    label, sample = torch.tensor([4]), noisy(1, 3, 16, 16)
    answers = model(sample, 3.0, label).sample, model(sample, 3.0, torch.tensor([0])).sample
    assert answers[0].shape == (1, 6, 16, 16) and not torch.equal(*answers)
    assert torch.equal(model(sample, 3.0, label).sample, answers[0])


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


# What diffusers does with a network


@pytest.fixture
def compiler():
    """Fail where the compiler would give up; what it has compiled before counts there."""
    if not hasattr(torch._dynamo.config, "fail_on_recompile_limit_hit"):
        pytest.skip("torch 2.6 does not tell where its compiler gives up")
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.usefixtures("compiler")
def test_repeated_blocks_are_compiled():
    two = {"block_out_channels": (8, 16), "down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
    model = tiny(1, **two, up_block_types=("AttnUpBlock2D", "UpBlock2D"), patch_size=2)
    sample = noisy(1, 3, 16, 16)
    expected = model(sample, 396).sample
    model.compile_repeated_blocks(backend="eager")
    torch.testing.assert_close(model(sample, 396).sample, expected)
    compiled = {type(block) for block in model.modules() if block._compiled_call_impl is not None}
    assert compiled == {type(block) for block in (*model.down_blocks, model.mid_block, *model.up_blocks)}


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_repeated_blocks_of_as_many_levels_as_the_official_prior_has_are_compiled():
    levels = {
        "block_out_channels": (8, 12, 16, 20, 24, 28, 32),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D",) * 3,
        "up_block_types": ("AttnUpBlock2D",) * 3 + ("UpBlock2D",) * 4,
    }
    model = tiny(1, sample_size=64, **levels)
    samples = [noisy(batch, 3, 64, 64) for batch in (1, 2, 3)]
    expected = [model(sample, 396).sample for sample in samples]
    model.compile_repeated_blocks(backend="eager")
    for sample, answer in zip(samples, expected, strict=True):
        torch.testing.assert_close(model(sample, 396).sample, answer)


def test_layerwise_casting_spares_the_parts_that_it_spares_in_diffusers_network():
    dtypes = []
    for model in (tiny(1, UNet2DModel), tiny(1, patch_size=2)):
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        dtypes.append({name: parameter.dtype for name, parameter in model.named_parameters()})
        with torch.no_grad():
            assert model(noisy(1, 3, 16, 16), 3).sample.isfinite().all()
    assert dtypes[0] == dtypes[1]
    assert dtypes[1]["conv_in.weight"] is torch.float8_e4m3fn and dtypes[1]["conv_norm_out.weight"] is torch.float32


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = tiny((1, 2, 1), patch_size=2).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(noisy(1, 3, 16, 16), 396).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)
    assert gradients[0][0].abs().max() > 0


@torch.no_grad()
def test_channels_may_be_innermost():
    model, sample = tiny(1, patch_size=2), noisy(2, 3, 16, 16)
    expected = model(sample, 396).sample
    to_channels_last(model)
    for laid_out in (sample, sample.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(model(laid_out, 396).sample, expected, rtol=0, atol=1e-5)


# Files


@torch.no_grad()
@pytest.mark.parametrize("cls", [UNet2DModel, DifFaceUNet2DModel])
def test_loads_what_was_saved_before_there_were_patches(cls, tmp_path):
    model, sample = tiny(1, cls), noisy(1, 3, 16, 16)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("patch_size", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = DifFaceUNet2DModel.from_pretrained(tmp_path)
    assert loaded.config.patch_size == 1
    assert torch.equal(loaded(sample, 4).sample, model(sample, 4).sample)


@torch.no_grad()
@pytest.mark.parametrize("patch_size", [1, 2])
def test_saves_and_loads(patch_size, tmp_path):
    model, sample = tiny((1, 3, 2), patch_size=patch_size), noisy(1, 3, 16, 16)
    model.save_pretrained(tmp_path)
    loaded = DifFaceUNet2DModel.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert tuple(loaded.config.layers_per_block) == (1, 3, 2)
    assert loaded.config.patch_size == patch_size
    torch.testing.assert_close(loaded(sample, 4).sample, model(sample, 4).sample, rtol=0, atol=1e-5)


# Errors


def test_refuses_another_number_of_levels():
    with pytest.raises(ValueError, match=r"`layers_per_block` has 2 entries \(\(1, 2\)\).* one entry per level, 3"):
        tiny((1, 2))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"patch_size": 0}, ValueError, "`patch_size` is 0; it must be at least 1"),
        ({"patch_size": -2}, ValueError, "`patch_size` is -2; it must be at least 1"),
        ({"patch_size": 2.0}, TypeError, r"`patch_size` is 2\.0; it must be an integer"),
        ({"patch_size": "2"}, TypeError, "`patch_size` is '2'; it must be an integer"),
        ({"patch_size": None}, TypeError, "`patch_size` is None; it must be an integer"),
        ({"patch_size": True}, TypeError, "`patch_size` is True; it must be an integer"),
        ({"patch_size": 3}, ValueError, "`sample_size` is 16; with `patch_size` 3 and 3 levels .* a multiple of 12"),
        ({"patch_size": 8}, ValueError, "`sample_size` is 16; .* a multiple of 32"),
        ({"patch_size": 2, "sample_size": (16, 20)}, ValueError, r"`sample_size` is \(16, 20\); .* a multiple of 8"),
        (
            {"patch_size": 2, "down_block_types": ("SkipDownBlock2D", "AttnDownBlock2D", "DownBlock2D")},
            ValueError,
            "`patch_size` is 2; it must be 1 with SkipDownBlock2D",
        ),
        (
            {"patch_size": 2, "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "AttnSkipUpBlock2D")},
            ValueError,
            "`patch_size` is 2; it must be 1 with AttnSkipUpBlock2D",
        ),
    ],
)
def test_refuses_patches(changes, error, message):
    with pytest.raises(error, match=message):
        tiny(1, **changes)


def test_the_size_of_pictures_may_be_left_open():
    assert tiny(1, patch_size=3, sample_size=None)(noisy(1, 3, 24, 12), 3).sample.shape == (1, 6, 24, 12)


@pytest.mark.parametrize(
    ("patch_size", "shape"),
    [(1, (1, 3, 16, 18)), (1, (3, 16, 16)), (2, (1, 3, 16, 20)), (2, (1, 3, 17, 16)), (2, (1, 12, 8, 8))],
)
def test_refuses_a_sample_of_another_shape(patch_size, shape):
    sides = (
        rf"`sample` has the shape \({', '.join(map(str, shape))}\); it must be \[B,3,H,W\] .* of {4 * patch_size}\."
    )
    with pytest.raises(ValueError, match=sides):
        tiny(1, patch_size=patch_size)(noisy(*shape), 3)
