import pytest
import torch
import torch.nn.functional as F
from torch import nn

from difface_diffusers import SRCNNEstimator


SAME_SIZE = {"num_channels": 32, "depth": 3, "down_scale_factor": 4}
UP_SAMPLING = {"num_channels": 8, "depth": 3, "sf": 4}


def tiny(arguments):
    model = SRCNNEstimator(**arguments).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


# Smoke


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 1_022_339),
        ({"down_scale_factor": 2}, 762_355),
        ({"down_scale_factor": 8}, 888_786),
        ({"down_scale_factor": 8, "num_channels": 256}, 14_127_615),
    ],
)
def test_parameters_are_as_many_as_in_the_original(arguments, parameters):
    with torch.device("meta"):
        model = SRCNNEstimator(**arguments)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@torch.no_grad()
@pytest.mark.parametrize("arguments", [SAME_SIZE, UP_SAMPLING])
def test_saves_and_loads(arguments, tmp_path):
    model, image = tiny(arguments), picture(1, 3, 7, 9)
    model.save_pretrained(tmp_path)
    loaded = SRCNNEstimator.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert loaded.config.down_scale_factor == arguments.get("down_scale_factor")
    torch.testing.assert_close(loaded(image), model(image), rtol=0, atol=1e-5)


# Shape


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 13), (8, 8), (65, 64)])
def test_same_size_variant_answers_in_the_size_of_any_input(size):
    assert tiny(SAME_SIZE)(picture(2, 3, *size)).shape == (2, 3, *size)


@torch.no_grad()
@pytest.mark.parametrize("sf", [1, 2, 8])
def test_up_sampling_variant_answers_sf_times_larger(sf):
    model = tiny(UP_SAMPLING | {"sf": sf, "in_channels": 1, "out_channels": 2})
    assert model(picture(2, 1, 5, 7)).shape == (2, 2, 5 * sf, 7 * sf)


def test_out_channels_follow_in_channels():
    assert SRCNNEstimator(in_channels=2).tail[-1].out_channels == 2
    assert SRCNNEstimator(in_channels=2, down_scale_factor=2).tail[-1].out_channels == 2


# Numbers


@torch.no_grad()
@pytest.mark.parametrize("arguments", [{"down_scale_factor": 4}, {}])
def test_an_image_comes_through_a_deep_untrained_body(arguments):
    torch.manual_seed(0)
    model, images = SRCNNEstimator(depth=12, **arguments), picture(2, 3, 32, 32)
    first, second = model(images)
    assert 0.05 < (first - second).std() < 2


@torch.no_grad()
def test_crops_the_padding_at_the_right_and_bottom():
    model, image = tiny(SAME_SIZE), picture(1, 3, 10, 13)
    whole = model(F.pad(image, (0, 3, 0, 2), mode="reflect"))
    torch.testing.assert_close(model(image), whole[..., :10, :13])


@torch.no_grad()
def test_same_size_variant_layer_by_layer():
    model, image = tiny(SAME_SIZE), picture(1, 3, 8, 12)
    weights = model.state_dict()

    def conv(x, name):
        weight = weights[f"{name}.weight"]
        return F.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    x = conv(conv(F.pixel_unshuffle(image, 2), "head.1"), "head.2")
    x = conv(F.pixel_unshuffle(F.leaky_relu(x, 0.2), 2), "head.5")
    for index in (0, 2):
        x = F.leaky_relu(conv(x, f"body.{index}"), 0.2)
    for index in (0, 3):
        x = F.pixel_shuffle(F.leaky_relu(conv(x, f"tail.{index}"), 0.2), 2)
    torch.testing.assert_close(model(image), conv(x, "tail.6"))


@torch.no_grad()
def test_up_sampling_variant_layer_by_layer():
    model, image = tiny(UP_SAMPLING), picture(1, 3, 5, 6)
    x = model.head(image)
    for index in (0, 2):
        x = F.leaky_relu(model.body[index](x), 0.2)
    for index in (0, 3):
        x = F.pixel_shuffle(F.leaky_relu(model.tail[index](x), 0.2), 2)
    torch.testing.assert_close(model(image), model.tail[6](x))


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sf": 3}, r"`sf` is 3; it must be a power of two"),
        ({"sf": 0}, r"`sf` is 0; it must be a power of two"),
        ({"down_scale_factor": 3}, r"`down_scale_factor` is 3; it must be a power of two above 1"),
        ({"down_scale_factor": 1}, r"`down_scale_factor` is 1; it must be a power of two above 1"),
        ({"down_scale_factor": 4, "num_channels": 24}, r"`num_channels` is 24; it must be a multiple of 16"),
        ({"down_scale_factor": 2, "out_channels": 1}, r"`out_channels` is 1; with `down_scale_factor` it must be"),
        ({"depth": 0}, r"`depth` is 0; it must be above 0"),
        ({"in_channels": 0}, r"`in_channels` is 0"),
    ],
)
def test_refuses_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SRCNNEstimator(**arguments)
