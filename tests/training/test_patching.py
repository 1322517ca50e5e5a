import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel

from difface_diffusers import DifFaceUNet2DModel
from difface_diffusers.training import patching
from difface_diffusers.training.patching import fold
from tests.conftest import tiny_unet


ALPHAS = DDPMScheduler().alphas_cumprod  # linear


def unet(cls=DifFaceUNet2DModel, **changes):
    settings = {"sample_size": 16, "resnet_time_scale_shift": "scale_shift"}
    model = tiny_unet(cls=cls, **settings | changes)
    for parameter in model.parameters():  # biases and norms begin as zeros and ones, which hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def timeless(model):
    """Let a network answer alike at all timesteps."""
    torch.nn.init.zeros_(model.time_embedding.linear_1.weight)
    return model


def on_patches(patch_size=2, **changes):
    return unet(sample_size=16 * patch_size, patch_size=patch_size, **changes)


def picture(size, *shape):
    return torch.randn(*shape or (2, 3), size, size, generator=torch.Generator().manual_seed(0))


def spread(values, patch_size):
    return values.repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)


def scale(patch_size, end):
    return (ALPHAS[:end] + (1 - ALPHAS[:end]) / patch_size**2).rsqrt().mean()


# The function


@torch.no_grad()
@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("cls", [UNet2DModel, DifFaceUNet2DModel])
def test_the_means_of_patches_are_answered_as_pixels(cls, patch_size):
    small, large, noisy = timeless(unet(cls, out_channels=6)), on_patches(patch_size, out_channels=6), picture(64)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    fold(small, large, ALPHAS, 450)
    answer = small(F.avg_pool2d(noisy, patch_size) * scale(patch_size, 450), 3).sample
    answer[:, :3] /= patch_size  # the noise of the means is weaker, the variance is not
    torch.testing.assert_close(large(noisy, 3).sample, spread(answer, patch_size), rtol=0, atol=1e-5)
    assert all(value.equal(before[name]) for name, value in small.state_dict().items())


@torch.no_grad()
def test_a_wider_one_answers_the_same():
    """Without room for the details: the channels that would carry them do not leave as many as the small network has."""
    small, large, noisy = timeless(unet()), on_patches(block_out_channels=(16, 32)), picture(32)
    fold(small, large, ALPHAS, 450)
    answer = spread(small(F.avg_pool2d(noisy, 2) * scale(2, 450), 3).sample / 2, 2)
    torch.testing.assert_close(large(noisy, 3).sample, answer, rtol=0, atol=1e-4)


def test_the_scale_is_right_on_average_below_the_end():
    kernels = []
    for end in (1, 450, 1000):
        small, large = unet(), on_patches()
        fold(small, large, ALPHAS, end)
        kernels.append((large.conv_in.weight[:, ::4] / small.conv_in.weight).mean() * 4)
    expected = [torch.tensor(1.0), scale(2, 450), scale(2, 1000)]
    torch.testing.assert_close(torch.stack(kernels), torch.stack(expected), rtol=0, atol=1e-3)
    assert 1.2 < scale(2, 450) < 1.3 < scale(2, 1000) < 2


# Time


@pytest.mark.parametrize("area", [4, 16])
def test_a_timestep_is_seen_as_the_one_with_so_much_less_noise(area):
    seen = patching._seen_timesteps(ALPHAS, area)
    ratios = ALPHAS / (1 - ALPHAS)
    for timestep in (50, 300, 999):
        low = int(seen[timestep])
        assert ratios[low + 1] <= area * ratios[timestep] <= ratios[low]
    assert seen[0] == 0 and (seen.diff() >= 0).all()


@torch.no_grad()
def test_the_time_embedding_takes_a_timestep_for_the_one_it_is_seen_as():
    """Slow sinusoids alone are asked for: of the fast ones, which say little, there are too few for any warped time."""
    width = {"block_out_channels": (32, 64)}
    small, large = unet(**width), on_patches(**width)
    small.time_embedding.linear_1.weight.unflatten(1, (2, 16))[:, :, :6] = 0
    fold(small, large, ALPHAS, 450)

    def embed(model, timesteps):
        return model.time_embedding(model.time_proj(timesteps))

    expected = embed(small, patching._seen_timesteps(ALPHAS, 4).float())
    errors = [(embed(model, torch.arange(1000)) - expected).square().mean() for model in (large, small)]
    assert errors[0] < 0.15 * errors[1]
    assert large.time_embedding.linear_1.weight.abs().max() < 2 * small.time_embedding.linear_1.weight.abs().max()


# Details


@pytest.mark.parametrize("patch_size", [2, 3, 4])
def test_details_are_what_patches_hold_beside_their_means(patch_size):
    details = patching._details(3, patch_size)
    area = patch_size**2
    assert details.shape == (3 * (area - 1), 3 * area)
    torch.testing.assert_close(details @ details.T, torch.eye(len(details)), rtol=0, atol=1e-6)
    assert details.unflatten(1, (3, area)).sum(2).abs().max() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize(("patch_size", "width"), [(2, 32), (2, 40), (4, 64)])
def test_spare_channels_answer_details_as_noise(patch_size, width):
    """What is not in the means of patches of pure noise comes out as it went in, at any strength and timestep."""
    large, noise = on_patches(patch_size, block_out_channels=(width, 80)), picture(64)
    fold(unet(), large, ALPHAS, 450)
    assert patching._num_spare(unet(), large) >= 3 * (patch_size**2 - 1)
    details = noise - spread(F.avg_pool2d(noise, patch_size), patch_size)
    for strength, timestep in ((1, 900), (0.1, 3)):
        answer = large(strength * noise, timestep).sample
        answer -= spread(F.avg_pool2d(answer, patch_size), patch_size)
        assert (answer - details).square().mean() < 0.01 * details.square().mean()


@torch.no_grad()
def test_means_are_answered_nearly_as_before_beside_them():
    small, large, noisy = timeless(unet()), on_patches(block_out_channels=(32, 64)), picture(32)
    fold(small, large, ALPHAS, 450)
    expected = small(F.avg_pool2d(noisy, 2) * scale(2, 450), 3).sample / 2
    assert (F.avg_pool2d(large(noisy, 3).sample, 2) - expected).square().mean() < 0.2 * expected.var()


def test_spare_channels_learn():
    large = on_patches(block_out_channels=(32, 64))
    fold(unet(), large, ALPHAS, 450)
    large(picture(32), 3).sample.square().mean().backward()
    first, last = large.down_blocks[0].resnets[0], large.up_blocks[-1].resnets[-1]
    reads, makes = first.conv1.weight, last.conv2.weight
    assert reads[:, -9:].abs().max() == makes[-9:].abs().max() == 0
    assert reads.grad[:, -9:].abs().amax(dim=(0, 2, 3)).min() > 0
    assert makes.grad[-9:].abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"block_out_channels": (16, 32)},
        {"block_out_channels": (32, 64), "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D")},
        {"block_out_channels": (32, 64), "down_block_types": ("AttnDownBlock2D", "AttnDownBlock2D")},
        {"block_out_channels": (32, 64), "downsample_type": "resnet"},
        {"block_out_channels": (32,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)},
    ],
)
def test_no_details_where_they_have_no_place(changes):
    assert patching._num_spare(unet(), on_patches(**changes)) == 0


# Errors


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (
            {},
            {"sample_size": 16},
            "`sample_size` is 16; with `patch_size` 2 it must be 2 times .* initial weights, 16",
        ),
        ({"sample_size": (16, 32)}, {}, r"`sample_size` is 32; .* 2 times that of the initial weights, \(16, 32\)"),
        ({"sample_size": None}, {}, "`sample_size` is 32; .* 2 times that of the initial weights, None"),
        (
            {"patch_size": 2},
            {"patch_size": 4},
            "`patch_size` is 4; it must be 2, as in the initial",
        ),
        ({"patch_size": 2}, {"patch_size": 1}, "`patch_size` is 1; it must be 2, as in the initial weights"),
        (
            {"time_embedding_type": "fourier"},
            {"time_embedding_type": "fourier"},
            '`time_embedding_type` is "fourier"; ',
        ),
        ({}, {"layers_per_block": 2}, "`layers_per_block` is 2; it must be 1"),
        ({}, {"block_out_channels": (8, 8)}, r"`block_out_channels` is \[8, 8\]; \[8, 16\] cannot be widened to it"),
    ],
)
def test_refuses_networks_that_do_not_fit(small, large, message):
    with pytest.raises(ValueError, match=message):
        fold(unet(**small), unet(**{"sample_size": 32, "patch_size": 2} | large), ALPHAS, 450)
