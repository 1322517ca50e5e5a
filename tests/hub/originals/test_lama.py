import pytest
import torch

from conversion import convert_lama
from difface_diffusers import LaMaEstimator
from tests.hub.originals.reference import image, load_golden, load_manifest, weights


def golden_case(name):
    config, shapes = load_manifest(name)
    tensors, metadata = load_golden(name)
    source = image(name, tuple(int(side) for side in metadata["shape"].strip("()").split(",")))
    return weights(shapes), config, source, tensors["output"], int(metadata["subsample"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("lama_tiny", 1e-5),
        pytest.param("lama_full", 3e-4, marks=pytest.mark.slow),  # float64 differs from the recording by 7e-5
    ],
)
def test_answers_like_the_original(name, tolerance):
    state_dict, config, source, expected, step = golden_case(name)
    answer = convert_lama(state_dict, config)(source[:, :3], source[:, 3:])[..., ::step, ::step]
    torch.testing.assert_close(answer, expected, rtol=0, atol=tolerance)


def test_official_checkpoint_fills_the_official_network():
    config, shapes = load_manifest("lama_full")
    model = convert_lama({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, config)
    assert len(shapes) == len(model.state_dict()) == 989
    with torch.device("meta"):
        official = LaMaEstimator()
    assert {**model.config, "_use_default_values": None} == {**official.config, "_use_default_values": None}


def test_counters_are_kept_or_made():
    config, shapes = load_manifest("lama_tiny")
    counter = "model.1.bn_l.num_batches_tracked"
    plain = convert_lama(weights(shapes), config)
    counted = convert_lama({"state_dict": weights(shapes) | {counter: torch.tensor(7)}}, config)
    assert plain.conv_in.norm_local.num_batches_tracked == 0
    assert counted.conv_in.norm_local.num_batches_tracked == 7


@torch.no_grad()
def test_takes_a_prefix_and_is_saved(tmp_path):
    state_dict, config, source, expected, _ = golden_case("lama_tiny")
    convert_lama({f"module.{key}": value for key, value in state_dict.items()}, config).save_pretrained(tmp_path)
    answer = LaMaEstimator.from_pretrained(tmp_path)(source[:, :3], source[:, 3:])
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


def test_reports_faults_by_original_key():
    config, shapes = load_manifest("lama_tiny")
    state_dict = weights(shapes)
    state_dict["model.6.extra"] = torch.zeros(1)
    state_dict["model.1.bn_l.bias"] = torch.zeros(3)
    del state_dict["model.5.conv2.ffc.convg2g.fu.bn.weight"]
    with pytest.raises(ValueError) as raised:
        convert_lama(state_dict, config)
    assert str(raised.value).splitlines()[1:] == [
        "missing: model.5.conv2.ffc.convg2g.fu.bn.weight",
        "unexpected: model.6.extra",
        "mis-shaped: model.1.bn_l.bias [3], expected [16]",
    ]


BLOCKS = {"ratio_gin": 0.75, "ratio_gout": 0.75, "enable_lfu": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_nc": 3}, "`input_nc` is 3; only 4 can be converted"),
        ({"add_out_act": "tanh"}, "`add_out_act` is 'tanh'; only 'sigmoid'"),
        ({"ngf": 512}, "`ngf` is 512; after 2 doublings it must be at most 1024"),
        ({"resnet_conv_kwargs": BLOCKS | {"ratio_gout": 0.5}}, "`resnet_conv_kwargs` is .* equal ratio_gin and"),
        ({"resnet_conv_kwargs": BLOCKS | {"enable_lfu": True}}, "`resnet_conv_kwargs` is .* enable_lfu False"),
        ({"gated": True}, r"unknown arguments \['gated'\]"),
        ({"downsample_conv_kwargs": {"ratio_gin": 0.5}}, "`downsample_conv_kwargs` is"),
    ],
)
def test_refuses_a_configuration(changes, message):
    config, shapes = load_manifest("lama_tiny")
    with pytest.raises(ValueError, match=message):
        convert_lama(weights(shapes), config | changes)
