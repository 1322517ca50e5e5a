import pytest
import torch

from conversion import convert_srcnn
from difface_diffusers import SRCNNEstimator
from tests.hub.originals.reference import estimator_case, load_manifest, weights


NAMES = ["srcnn_tiny", "srcnnfsr_tiny"]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_answers_like_the_original(name):
    state_dict, config, image, expected, subsample = estimator_case(name, name)
    answer = convert_srcnn(state_dict, config)(image)[..., ::subsample, ::subsample]
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_converts_what_it_can_save_and_load(name, tmp_path):
    state_dict, config, image, _, _ = estimator_case(name, name)
    model = convert_srcnn({"state_dict": {f"module.{key}": value for key, value in state_dict.items()}}, config)
    model.save_pretrained(tmp_path)
    assert not model.training
    loaded = SRCNNEstimator.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(image), model(image), rtol=0, atol=1e-5)


def test_out_channels_of_its_own():
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in SRCNNEstimator(1, 2, 8, 2, 2).state_dict().items()}
    config = {"in_chns": 1, "out_chns": 2, "num_chns": 8, "depth": 2, "sf": 2}
    assert convert_srcnn(weights(shapes), config)(torch.zeros(1, 1, 4, 4)).shape == (1, 2, 8, 8)


def test_needs_every_key_and_no_other():
    config, shapes = load_manifest("srcnnfsr_tiny")
    state_dict = weights(shapes)
    del state_dict["head.5.weight"]
    with pytest.raises(ValueError, match=r"missing: head\.5\.weight"):
        convert_srcnn(state_dict, config)
    with pytest.raises(
        ValueError,
        match=r"unexpected: .*head\.5\.bias; tail\.6\.weight; tail\.6\.bias\nmis-shaped: tail\.3\.weight \[4, 4, 3, 3\], exp",
    ):
        convert_srcnn(weights(shapes), config | {"down_scale_factor": 2})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 4}, r"unknown arguments \['scale'\]"),
        ({"down_scale_factor": 3}, r"`down_scale_factor` is 3"),
        ({"depth": 5}, r"missing: body\.6\.weight; body\.6\.bias"),
    ],
)
def test_refuses_a_configuration(changes, message):
    config, shapes = load_manifest("srcnnfsr_tiny")
    with pytest.raises(ValueError, match=message):
        convert_srcnn(weights(shapes), config | changes)
