"""A prior on patches that begins as the function of a trained one on single pixels, for smaller pictures.

The mean of a patch of p x p noisy pixels is, but for its scale, a noisy pixel of a picture of a p-th of the size, at p**2
times the ratio of signal to noise: one of an earlier timestep. So the first convolution reads means, the time embedding
takes each timestep for that earlier one, and what the small network answers is the answer for the mean's noise.

What else a patch holds is nearly all noise, because faces are smooth. If the finest level is wider than the small network's,
some of its channels take it from the first convolution straight to the last normalization, which gives it the variance of
noise.
"""

import math

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel

from ..models.unet import DifFaceUNet2DModel
from .widening import last_resnet, read_settings, widen


RIDGE = 0.01  # how much the time embedding resists being changed, for sinusoids are nearly collinear
LINEAR_FROM = 4.0  # where the activation before the last convolution is nearly a line


def fold(small: UNet2DModel, large: DifFaceUNet2DModel, alphas_cumprod: torch.Tensor, end: int) -> None:
    """Fill a UNet that works on patches with the function of one that does not. Randomness comes from torch's global stream.

    Args:
        small: Trained, with a positional time embedding.
        large: Receives the weights; as many times the size of `small` as its patches have pixels a side, and as wide on each
            level or wider, but like it in all else.
        alphas_cumprod: Share of the signal's variance at each timestep, `[T]`, the same for both networks.
        end: The scale is right for the timesteps below it, on average; at least 1.

    Raises:
        ValueError: `small` works on patches, or its time embedding is of another kind, or the two differ in more than that.
    """
    _check(small, large)
    patch_size, area = large.config.patch_size, large.config.patch_size**2
    weights = small.state_dict()
    variances = alphas_cumprod + (1 - alphas_cumprod) / area  # of the means
    scale = variances[:end].rsqrt().mean()
    weights["conv_in.weight"] = weights["conv_in.weight"].repeat_interleave(area, dim=1) * (scale / area)
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = weights[name].repeat_interleave(area, dim=0)
        weights[name][: small.config.in_channels * area] /= patch_size  # epsilon; the means have so much less of it
    _refit_time(weights, small, _seen_timesteps(alphas_cumprod, area))
    sizes = {"sample_size": large.config.sample_size, "patch_size": patch_size}
    folded = DifFaceUNet2DModel(**read_settings(small) | sizes)
    folded.load_state_dict(weights)

    num_spare = _num_spare(folded, large)
    widen(folded, large, num_spare)
    if num_spare:
        _pass_details(large, num_spare)


def _check(small: UNet2DModel, large: DifFaceUNet2DModel) -> None:
    patch_size, has = large.config.patch_size, small.config.get("patch_size", 1)
    if has != 1:
        raise ValueError(f"`patch_size` is {patch_size}; it must be {has}, as in the initial weights.")
    sides, size = _sides(small), _sides(large)
    if size != [side * patch_size for side in sides]:
        raise ValueError(
            f"`sample_size` is {large.config.sample_size}; with `patch_size` {patch_size} it must be {patch_size} times"
            f" that of the initial weights, {small.config.sample_size}."
        )
    if small.config.time_embedding_type != "positional":
        raise ValueError(
            f'`time_embedding_type` is "{small.config.time_embedding_type}"; with other patches than those of the initial'
            ' weights it must be "positional".'
        )


def _sides(unet: UNet2DModel) -> list[int]:
    size = unet.config.sample_size
    return [size, size] if isinstance(size, int) else list(size or [])


def _seen_timesteps(alphas_cumprod: torch.Tensor, area: int) -> torch.Tensor:
    """Return for each timestep the one with `area` times its ratio of signal to noise, `[T]`; the first where none has."""
    noise = (1 / alphas_cumprod.double() - 1).log().numpy()
    return torch.from_numpy(np.interp(noise - math.log(area), noise, np.arange(len(noise))))


def _refit_time(weights: dict[str, torch.Tensor], small: UNet2DModel, seen: torch.Tensor) -> None:
    """Let the time embedding answer each timestep as that of `small` answers `seen`, `[T]`: layer 1, by least squares."""
    weight, bias = (f"time_embedding.linear_1.{leaf}" for leaf in ("weight", "bias"))
    features, wanted = (small.time_proj(times).double() for times in (torch.arange(len(seen)), seen))
    differences = (wanted - features) @ weights[weight].double().T
    features = torch.cat([features, torch.ones(len(seen), 1)], dim=1)  # for the bias
    penalty = RIDGE * len(seen) * torch.eye(features.shape[1])
    change = torch.linalg.solve(features.T @ features + penalty, features.T @ differences)
    weights[weight] = weights[weight] + change[:-1].T.float()
    weights[bias] = weights[bias] + change[-1].float()


def _num_spare(folded: DifFaceUNet2DModel, large: DifFaceUNet2DModel) -> int:
    """Return how many channels carry details, whole groups of the last normalization; 0 if there is no room for them."""
    config = large.config
    finest = config.down_block_types[0], config.up_block_types[-1], config.downsample_type
    if len(config.block_out_channels) < 2 or finest != ("DownBlock2D", "UpBlock2D", "conv"):
        return 0
    group = config.block_out_channels[0] // config.norm_num_groups
    num_spare = math.ceil(config.in_channels * (config.patch_size**2 - 1) / group) * group
    return num_spare if config.block_out_channels[0] - num_spare >= folded.config.block_out_channels[0] else 0


def _pass_details(unet: DifFaceUNet2DModel, num_spare: int) -> None:
    """Let the spare channels carry what patches hold beside their means, and the network answer it as noise."""
    details = _details(unet.config.in_channels, unet.config.patch_size)
    channels = torch.arange(num_spare) % len(details)
    shares = 1 / channels.bincount()[channels]  # the first ones are carried twice where the groups leave room
    details = details[channels]
    gate = 1 / (1 + math.exp(-LINEAR_FROM))
    level, slope = LINEAR_FROM * gate, gate * (1 + LINEAR_FROM * (1 - gate))  # of the activation there
    answers = (details * shares[:, None] / slope).T  # [pixels, num_spare]

    weights, spare = unet.state_dict(), slice(-num_spare, None)  # they are the network's own
    resnet = last_resnet(unet)  # the last channels that it reads come straight from `conv_in`
    for layer in ("conv_in", f"{resnet}.conv2", f"{resnet}.conv_shortcut"):
        weights[f"{layer}.weight"][spare] = 0
        weights[f"{layer}.bias"][spare] = 0
    weights["conv_in.weight"][spare, :, 1, 1] = details
    weights[f"{resnet}.conv_shortcut.weight"][spare, spare, 0, 0] = torch.eye(num_spare)
    weights["conv_norm_out.weight"][spare] = 1
    weights["conv_norm_out.bias"][spare] = LINEAR_FROM
    weights["conv_out.weight"][: len(answers), spare, 1, 1] = answers
    weights["conv_out.bias"][: len(answers)] -= level * answers.sum(dim=1)


def _details(channels: int, patch_size: int) -> torch.Tensor:
    """Return an orthonormal basis of what the patches of a picture hold beside their means, `[C*(p**2-1),C*p**2]`."""
    places = torch.arange(patch_size)
    cosines = torch.cos(math.pi / patch_size * (places + 0.5) * places[:, None])
    cosines /= cosines.norm(dim=1, keepdim=True)
    return torch.kron(torch.eye(channels), torch.kron(cosines, cosines)[1:].contiguous())
