"""How close half precision comes to float32, beside the original's own half precision."""

import pytest
import torch

from conversion import convert_prior
from tests.hub.originals.original_unet import HalfOriginalUNet
from tests.hub.originals.reference import image, load_manifest, noise, weights


@pytest.mark.parametrize(
    ("manifest", "size"),
    [("unet_tiny_varied", 32), pytest.param("unet_full512", 64, marks=pytest.mark.slow)],
)
@torch.no_grad()
def test_half_precision_errs_little_more_than_the_originals(manifest, size):
    config, shapes = load_manifest(manifest)
    state_dict, timestep = weights(shapes), torch.tensor([396])
    sample = image("half", (1, 3, size, size)) * 2 - 1 + 0.5 * noise("half", -1, (1, 3, size, size))

    unet = convert_prior(state_dict, config)
    expected = unet(sample, timestep).sample
    half = unet.half()(sample.half(), timestep).sample
    original = HalfOriginalUNet(state_dict, config)(sample, timestep)
    error, error_of_original = ((answer.float() - expected).square().mean().sqrt() for answer in (half, original))
    assert original.dtype is torch.float32 and half.dtype is torch.float16
    assert 0 < error_of_original < 0.003 * expected.std()
    assert error < 1.3 * error_of_original
