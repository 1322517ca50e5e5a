import pytest
import torch
import torch.nn.functional as F

from difface_diffusers.models.srvgg import SRVGGNetCompact


def network(scale=4):
    torch.manual_seed(0)
    return SRVGGNetCompact(scale, num_channels=8, num_convs=2).eval()


def by_hand(weights, image, scale):
    """The network written down without modules."""
    features = image
    for layer in (0, 2, 4):
        features = F.conv2d(features, weights[f"body.{layer}.weight"], weights[f"body.{layer}.bias"], padding=1)
        slope = weights[f"body.{layer + 1}.weight"].view(1, -1, 1, 1)
        features = torch.where(features > 0, features, slope * features)
    features = F.conv2d(features, weights["body.6.weight"], weights["body.6.bias"], padding=1)
    batch, _, height, width = features.shape
    detail = features.view(batch, 3, scale, scale, height, width).permute(0, 1, 4, 2, 5, 3)
    repeated = image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return repeated + detail.reshape(batch, 3, height * scale, width * scale)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_enlarges_by_its_scale(scale, size):
    model, image = network(scale), torch.rand(2, 3, *size)
    enlarged = model(image)
    assert enlarged.shape == (2, 3, scale * size[0], scale * size[1])
    torch.testing.assert_close(enlarged, by_hand(model.state_dict(), image, scale))


def test_saved_and_loaded(tmp_path):
    model, image = network(2), torch.rand(1, 3, 6, 6)
    model.save_pretrained(tmp_path)
    loaded = SRVGGNetCompact.from_pretrained(tmp_path)
    assert dict(loaded.config)["num_convs"] == 2
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), model(image))


@pytest.mark.parametrize(("argument", "value"), [("scale", 0), ("num_channels", 0), ("num_convs", -1)])
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` is {value}; it must be above 0"):
        SRVGGNetCompact(**{argument: value})
