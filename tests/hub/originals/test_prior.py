import json

import pytest
import torch
from diffusers import UNet2DModel

from conversion import convert_prior
from difface_diffusers import DifFaceUNet2DModel
from difface_diffusers.hub.originals.prior import check_prior_config, checkpoint_entries, split_qkv, unet_arguments
from tests.hub.originals.original_unet import OriginalUNet
from tests.hub.originals.reference import GOLDENS, image, load_manifest, noise, prior_case, weights


TINY = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [8],
    "channel_mult": [1, 2, 1],
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
}


def original_weights(config):
    """Draw a checkpoint in the original's names for a configuration that has no manifest."""
    config = {"dropout": 0} | config
    check_prior_config(config)
    with torch.device("meta"):
        model = DifFaceUNet2DModel(**unet_arguments(config))
    return weights({key: entry.shape for key, entry in checkpoint_entries(model, config).items()})


# Numbers


@pytest.mark.parametrize(
    ("name", "unet_class"),
    [
        ("unet_tiny_uniform", UNet2DModel),
        ("unet_tiny_varied", DifFaceUNet2DModel),
        pytest.param("unet_full256", UNet2DModel, marks=pytest.mark.slow),
        pytest.param("unet_full512", DifFaceUNet2DModel, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_answers_like_the_original(name, unet_class):
    state_dict, config, sample, golden, subsample = prior_case(name)
    model = convert_prior(state_dict, config)
    answer = model(sample, golden["timesteps"]).sample
    assert type(model) is unet_class and model.config.get("patch_size", 1) == 1
    torch.testing.assert_close(answer[..., ::subsample, ::subsample], golden["output"], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(answer.mean((2, 3)), golden["output_mean"], rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.std((2, 3)), golden["output_std"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"out_channels": 3, "in_channels": 4},
        {"attention_resolutions": [16, 4], "num_head_channels": 32},
        {"attention_resolutions": []},
        {"channel_mult": [1], "num_res_blocks": [2]},
        {"num_res_blocks": [2, 1, 3], "attention_resolutions": [16, 8, 4], "num_head_channels": 8},
        {"channel_mult": [2, 1, 3], "attention_resolutions": [8, 4]},
        {"model_channels": 16, "channel_mult": [6, 2, 4]},
        {"model_channels": 64, "channel_mult": [1, 0.5, 1.5]},
    ],
)
@torch.no_grad()
def test_answers_like_the_specification_for_other_configurations(changes):
    config = TINY | changes
    state_dict, time_width = original_weights(config), config["model_channels"]
    assert state_dict["time_embed.0.weight"].shape == (4 * time_width, time_width)
    assert state_dict["time_embed.2.weight"].shape == (4 * time_width, 4 * time_width)
    sample, timesteps = noise("other", 0, (2, config["in_channels"], 16, 16)), torch.tensor([3, 396])
    answer = convert_prior(state_dict, config)(sample, timesteps).sample
    torch.testing.assert_close(answer, OriginalUNet(state_dict, config)(sample, timesteps), rtol=0, atol=2e-5)


def test_fused_attention_runs_over_heads_first():
    # Two heads of two channels: rows are q0 q0 k0 k0 v0 v0 q1 q1 k1 k1 v1 v1.
    rows = torch.tensor([0.0, 1, 10, 11, 20, 21, 2, 3, 12, 13, 22, 23])
    assert [part.tolist() for part in split_qkv(rows, 2)] == [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]
    weight = rows[:, None, None] * torch.tensor([1.0, 2, 3, 4])[:, None]
    query, key, value = split_qkv(weight, 2)
    assert query.shape == (4, 4)
    assert key[:, 0].tolist() == [10, 11, 12, 13]
    assert value[3].tolist() == [23, 46, 69, 92]


# Keys and configuration


@pytest.mark.parametrize(
    ("manifest", "target", "unet_class"),
    [
        ("unet_full512", "diffusers_unet_ffhq512", DifFaceUNet2DModel),
        ("unet_full256", "diffusers_unet_ffhq256", UNet2DModel),
    ],
)
def test_official_checkpoint_has_the_keys_and_shapes_of_diffusers(manifest, target, unet_class):
    config, shapes = load_manifest(manifest)
    model = convert_prior({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, config)
    expected = json.loads((GOLDENS / f"{target}.json").read_text())
    assert type(model) is unet_class
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected


def test_official_configuration():
    config, shapes = load_manifest("unet_full512")
    model = convert_prior({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 159_788_454
    expected = {
        "sample_size": 512,
        "in_channels": 3,
        "out_channels": 6,
        "block_out_channels": (32, 64, 128, 256, 256, 512, 512),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D",) * 3,
        "up_block_types": ("AttnUpBlock2D",) * 3 + ("UpBlock2D",) * 4,
        "layers_per_block": (1, 2, 2, 2, 2, 3, 4),
        "attention_head_dim": 64,
        "norm_num_groups": 32,
        "attn_norm_num_groups": 32,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "conv",
        "upsample_type": "conv",
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "act_fn": "silu",
        "dropout": 0,
        "mid_block_scale_factor": 1,
        "center_input_sample": False,
        "time_embedding_dim": None,
    }
    assert {name: model.config[name] for name in expected} == expected


@torch.no_grad()
def test_converts_what_it_can_save_and_load(tmp_path):
    state_dict, config, _, _, _ = prior_case("unet_tiny_varied")
    model = convert_prior({"state_dict": {f"module.{key}": value for key, value in state_dict.items()}}, config)
    model.save_pretrained(tmp_path)
    loaded, sample = DifFaceUNet2DModel.from_pretrained(tmp_path), image("saved", (1, 3, 32, 32))
    assert not model.training
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    torch.testing.assert_close(loaded(sample, 4).sample, model(sample, 4).sample, rtol=0, atol=1e-5)


def test_dropout_reaches_the_network():
    model = convert_prior(original_weights(TINY), TINY | {"dropout": 0.25})
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} >= {0.25}


# Errors


def test_reports_faults_by_original_key():
    state_dict = original_weights(TINY)
    del state_dict["middle_block.1.qkv.weight"]
    state_dict["input_blocks.1.1.norm.weight"] = torch.zeros(32)
    state_dict["input_blocks.3.1.qkv.bias"] = torch.zeros(64)
    state_dict["time_embed.0.weight"] = torch.zeros(128, 64)
    with pytest.raises(ValueError, match="does not fit") as caught:
        convert_prior(state_dict, TINY)
    assert str(caught.value).splitlines()[1:] == [
        "missing: middle_block.1.qkv.weight",
        "unexpected: input_blocks.1.1.norm.weight",
        "mis-shaped: time_embed.0.weight [128, 64], expected [128, 32];"
        " input_blocks.3.1.qkv.bias [64], expected [192]",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_new_attention_order": True}, r"`use_new_attention_order` is True; only False can be converted"),
        ({"resblock_updown": True}, r"`resblock_updown` is True; only False"),
        ({"use_scale_shift_norm": False}, r"`use_scale_shift_norm` is False; only True"),
        ({"dims": 1}, r"`dims` is 1; only 2"),
        ({"conv_resample": False}, r"`conv_resample` is False; only True"),
        ({"num_classes": 10}, r"`num_classes` is 10; only None"),
        ({"attention_levels": [1]}, r"unknown arguments \['attention_levels'\]"),
        ({"num_res_blocks": [1, 2]}, r"`num_res_blocks` is \[1, 2\]; it must be an integer or one per entry"),
        ({"num_res_blocks": 0}, r"`num_res_blocks` is 0; .* at least 1"),
        ({"channel_mult": [1, 1.5, 1]}, r"`channel_mult` times `model_channels` is \(32, 48, 32\); .* multiple of 32"),
        ({"channel_mult": []}, r"`channel_mult`"),
        ({"model_channels": 64, "channel_mult": [1.5, 1]}, r"`model_channels` is 64, .* first level, 96"),
        ({"num_head_channels": -1}, r"`num_head_channels` is -1; it must be a positive divisor"),
        ({"num_head_channels": 64}, r"`num_head_channels` is 64; .* attention, \[32, 64\]"),
    ],
)
def test_refuses_a_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        convert_prior({}, TINY | changes)


def test_refuses_a_configuration_that_lacks_an_argument():
    config = {key: value for key, value in TINY.items() if key != "use_scale_shift_norm"}
    with pytest.raises(ValueError, match=r"misses \['use_scale_shift_norm'\]"):
        convert_prior({}, config)
