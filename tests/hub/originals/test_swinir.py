import pytest
import torch

from conversion import convert_swinir
from difface_diffusers import SwinIREstimator
from tests.hub.originals.reference import estimator_case, load_manifest, weights


BLOCK = "layers.0.residual_group.blocks.1"


def meta(shapes):
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


# Numbers


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("swinir_tiny", "swinir_tiny"),
        ("swinir_tiny_odd", "swinir_tiny"),
        pytest.param("swinir_full", "swinir_full", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_answers_like_the_original(name, manifest):
    state_dict, config, image, expected, subsample = estimator_case(name, manifest)
    answer = convert_swinir(state_dict, config)(image)[..., ::subsample, ::subsample]
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


# Keys


def test_official_checkpoint_fills_the_official_network():
    config, shapes = load_manifest("swinir_full")
    model = convert_swinir(meta(shapes), config)
    assert len(shapes) == 732
    assert len(model.state_dict()) == 660
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_792_587
    with torch.device("meta"):
        official = SwinIREstimator()
    assert {**model.config, "_use_default_values": None} == {**official.config, "_use_default_values": None}


def test_index_buffers_are_ignored():
    config, shapes = load_manifest("swinir_tiny")
    state_dict = weights(shapes)
    buffers = {key: torch.full(shape, 7.0) for key, shape in shapes.items() if key not in state_dict}
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert len(buffers) == 6
    with torch.no_grad():
        assert torch.equal(
            convert_swinir(state_dict | buffers, config)(image), convert_swinir(state_dict, config)(image)
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"in_chans": 1, "depths": [1, 3], "num_heads": [2, 6], "embed_dim": 24},
        {"window_size": 4, "mlp_ratio": 1.5, "sf": 2, "unshuffle_scale": 2, "img_range": 255.0},
    ],
)
@torch.no_grad()
def test_converts_and_saves_other_configurations(changes, tmp_path):
    config = load_manifest("swinir_tiny")[0] | changes
    with torch.device("meta"):
        model = SwinIREstimator(
            in_channels=config["in_chans"],
            embed_dim=config["embed_dim"],
            depths=config["depths"],
            num_heads=config["num_heads"],
            window_size=config["window_size"],
            mlp_ratio=config["mlp_ratio"],
            scale=config["sf"],
        )
    inner = {"norm_attn": "norm1", "norm_mlp": "norm2", "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
    outer = {
        "conv_in": "conv_first.1",
        "norm_in": "patch_embed.norm",
        "norm_out": "norm",
        "conv_body": "conv_after_body",
    }
    ups = {"conv_feat": "conv_before_upsample.0", "conv_refine": "conv_hr", "conv_out": "conv_last"}
    state_dict = {}
    for key, value in model.state_dict().items():
        name = key.replace("groups.", "layers.").replace("blocks", "residual_group.blocks")
        name = name.replace("bias_table", "relative_position_bias_table")
        for ours, theirs in (inner | outer | ups).items():
            name = name.replace(f"{ours}.", f"{theirs}.")
        if "conv_up." in name:
            name = name.replace(f"conv_up.{key[8]}", f"conv_up{int(key[8]) + 1}")
        state_dict[name] = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(state_dict)))
    converted = convert_swinir({"state_dict": {f"module.{key}": value for key, value in state_dict.items()}}, config)

    assert not converted.training
    assert converted.config.img_range == config["img_range"]
    assert torch.equal(
        converted.groups[1].blocks[0].attn.qkv.weight, state_dict["layers.1.residual_group.blocks.0.attn.qkv.weight"]
    )
    image = torch.rand(1, config["in_chans"], 9, 17, generator=torch.Generator().manual_seed(0))
    converted.save_pretrained(tmp_path)
    loaded = SwinIREstimator.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(image), converted(image))


# Errors


def test_reports_faults_by_original_key():
    config, shapes = load_manifest("swinir_tiny")
    state_dict = weights(shapes)
    del state_dict[f"{BLOCK}.norm1.weight"]
    state_dict["conv_up3.weight"] = torch.zeros(64, 64, 3, 3)
    state_dict["conv_first.1.weight"] = torch.zeros(36, 3, 3, 3)
    with pytest.raises(ValueError, match="does not fit") as caught:
        convert_swinir(state_dict, config)
    assert str(caught.value).splitlines()[1:] == [
        f"missing: {BLOCK}.norm1.weight",
        "unexpected: conv_up3.weight",
        "mis-shaped: conv_first.1.weight [36, 3, 3, 3], expected [36, 48, 3, 3]",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsampler": "pixelshuffle"}, r"`upsampler` is 'pixelshuffle'; only 'nearest\+conv' can be converted"),
        ({"resi_connection": "3conv"}, r"`resi_connection` is '3conv'; only '1conv'"),
        ({"unshuffle": False}, r"`unshuffle` is False; only True"),
        ({"unshuffle_scale": 2}, r"`unshuffle_scale` is 2; it must equal `sf`, 4"),
        ({"patch_size": 2}, r"`patch_size` is 2; only 1"),
        ({"ape": True}, r"`ape` is True; only False"),
        ({"img_size": 8}, r"`img_size` is 8; it must be larger than `window_size`, 8"),
        ({"windows": 8}, r"unknown arguments \['windows'\]"),
        ({"depths": [2, 2, 2]}, r"`depths` is \(2, 2, 2\)"),
    ],
)
def test_refuses_a_configuration(changes, message):
    config, shapes = load_manifest("swinir_tiny")
    with pytest.raises(ValueError, match=message):
        convert_swinir(meta(shapes), config | changes)


def test_refuses_a_configuration_that_lacks_an_argument():
    config, shapes = load_manifest("swinir_tiny")
    del config["depths"]
    with pytest.raises(ValueError, match=r"misses \['depths'\]"):
        convert_swinir(meta(shapes), config)
