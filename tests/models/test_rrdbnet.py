import pytest
import torch
import torch.nn.functional as F

from difface_diffusers.models.rrdbnet import RRDBNet


def network(scale=4):
    torch.manual_seed(0)
    return RRDBNet(scale, num_channels=8, num_blocks=2, growth_channels=4).eval()


def by_hand(weights, image):
    """The network written down from its papers, without modules."""

    def convolve(name, features):
        return F.conv2d(features, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def dense(name, features):
        seen = [features]
        for number in (1, 2, 3, 4):
            seen.append(F.leaky_relu(convolve(f"{name}.conv{number}", torch.cat(seen, 1)), 0.2))
        return features + 0.2 * convolve(f"{name}.conv5", torch.cat(seen, 1))

    shallow = features = convolve("conv_first", image)
    for block in (0, 1):
        inner = features
        for number in (1, 2, 3):
            inner = dense(f"body.{block}.rdb{number}", inner)
        features = features + 0.2 * inner
    features = shallow + convolve("conv_body", features)
    for name in ("conv_up1", "conv_up2"):
        features = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
        features = F.leaky_relu(convolve(name, features), 0.2)
    return convolve("conv_last", F.leaky_relu(convolve("conv_hr", features), 0.2))


@torch.no_grad()
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 4)])
def test_four_times_as_large(size):
    model, image = network(), torch.rand(2, 3, *size)
    enlarged = model(image)
    assert enlarged.shape == (2, 3, 4 * size[0], 4 * size[1])
    torch.testing.assert_close(enlarged, by_hand(model.state_dict(), image))


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2])
def test_smaller_scales_fold_the_picture(scale):
    model, image = network(scale), torch.rand(1, 3, 8, 12)
    folded = F.pixel_unshuffle(image, 4 // scale)
    torch.testing.assert_close(model(image), by_hand(model.state_dict(), folded))


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2])
def test_any_size_is_taken(scale):
    model, image = network(scale), torch.rand(1, 3, 7, 13)
    enlarged = model(image)
    assert enlarged.shape == (1, 3, 7 * scale, 13 * scale)
    whole = model(F.pad(image, (0, -13 % 4, 0, -7 % 4), mode="reflect"))
    torch.testing.assert_close(enlarged[..., :4, :8], whole[..., :4, :8], atol=1e-2, rtol=0)


def test_saved_and_loaded(tmp_path):
    model, image = network(2), torch.rand(1, 3, 6, 6)
    model.save_pretrained(tmp_path)
    loaded = RRDBNet.from_pretrained(tmp_path)
    assert loaded.config.scale == 2 and loaded.config.num_blocks == 2
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), model(image))


@pytest.mark.parametrize(
    ("argument", "value"), [("scale", 3), ("num_channels", 0), ("num_blocks", 0), ("growth_channels", -1)]
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` is {value}; it must be"):
        RRDBNet(**{argument: value})
