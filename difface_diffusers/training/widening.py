"""A wider prior that begins as the function of a trained narrow one (Net2WiderNet, Chen et al., ICLR 2016).

Every channel of the narrow network becomes one or more channels of the wide one. What reads a channel reads all of its
copies, in random proportions, which lets the copies grow apart. The wide network computes exactly what the narrow one does
as long as each level's width is a multiple of the narrow one's, by the same factor as its neighbors'; otherwise the groups
of some normalizations are cut in other places, and it computes nearly the same.
"""

import re
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel


SMALLEST_SHARE = 0.1  # before the shares of a channel's copies are made to add up to 1
SPARE = -1  # stands for the narrow channel of a wide one that is no copy
MAY_DIFFER = ("sample_size", "block_out_channels")
READS_A_SKIP = re.compile(r"up_blocks\.(\d+)\.resnets\.(\d+)\.(?:norm1\.|conv1\.weight|conv_shortcut\.weight)")
HEADS = re.compile(r".*\.attentions\.\d+\.to_(?:(?P<makes>[qkv])|out\.0\.weight)")


def widen(narrow: UNet2DModel, wide: UNet2DModel, num_spare: int = 0) -> None:
    """Fill a UNet with a narrower one's function. Randomness comes from torch's global stream.

    Args:
        narrow: Trained, with a positional time embedding.
        wide: Receives the weights; differs from `narrow` in nothing but `sample_size` and `block_out_channels`, none of
            which is smaller.
        num_spare: How many channels of the finest level, the last ones, are no copies: in the stream that leaves `conv_in`,
            wherever a skip connection takes it, and in the one that reaches `conv_out`. Nothing reads them, and what makes
            them is left as it was. They need two levels, the finest of `DownBlock2D` and `UpBlock2D` with convolutions that
            sample down, and at least as many channels more.

    Raises:
        ValueError: The two differ in more than that, or their attention has one head of any width.
    """
    _check(narrow, wide)
    weights, targets = narrow.state_dict(), wide.state_dict()
    weights["time_embedding.linear_1.weight"] = _with_more_frequencies(
        weights["time_embedding.linear_1.weight"], wide.config.block_out_channels[0], wide.config.freq_shift
    )
    for name, target in targets.items():
        outputs, inputs = _origins(name, weights[name].shape, target.shape, narrow, wide, num_spare)
        weight = weights[name][outputs]
        weight = weight if inputs is None else share_inputs(weight, inputs)
        spare = outputs == SPARE
        weight[spare] = target[spare]
        targets[name] = weight
    wide.load_state_dict(targets)


def _check(narrow: UNet2DModel, wide: UNet2DModel) -> None:
    settings, narrow_settings = read_settings(wide), read_settings(narrow)
    for name, value in settings.items():
        if name not in MAY_DIFFER and value != narrow_settings[name]:
            raise ValueError(f"`{name}` is {value}; it must be {narrow_settings[name]}, as in the narrower network.")
    channels, narrow_channels = settings["block_out_channels"], narrow_settings["block_out_channels"]
    if settings["attention_head_dim"] is None and channels != narrow_channels:
        raise ValueError("`attention_head_dim` is None; it must be a number, as a wider head has another temperature.")
    if len(channels) != len(narrow_channels) or any(a < b for a, b in zip(channels, narrow_channels, strict=True)):
        raise ValueError(f"`block_out_channels` is {channels}; {narrow_channels} cannot be widened to it.")
    if unmatched := sorted(wide.state_dict().keys() ^ narrow.state_dict().keys()):
        raise ValueError(f"`block_out_channels` is {channels}; {unmatched[0]} is in only one of the two networks.")


def read_settings(network: ModelMixin) -> dict[str, Any]:
    """Return the config's values; a saved one comes back with lists for tuples, and one of diffusers has no patches."""
    return {"patch_size": 1} | {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in network.config.items()
        if not name.startswith("_")
    }


def last_resnet(unet: UNet2DModel) -> str:
    """Return the name of the residual block whose answer reaches the last normalization."""
    return [name for name, _ in unet.named_modules() if re.fullmatch(r"up_blocks\.\d+\.resnets\.\d+", name)][-1]


def _skip_channels(name: str, unet: UNet2DModel) -> int:
    """Return how many of the channels that a parameter reads, the last ones, come over a skip connection."""
    match = READS_A_SKIP.match(name)
    if match is None:
        return 0
    up, resnet = int(match[1]), int(match[2])
    level = len(unet.up_blocks) - 1 - up
    is_last = f"up_blocks.{up}.resnets.{resnet + 1}.norm1.weight" not in unet.state_dict()
    return unet.config.block_out_channels[max(level - 1, 0) if is_last else level]


def _origins(
    name: str, shape: torch.Size, target: torch.Size, narrow: UNet2DModel, wide: UNet2DModel, num_spare: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return for each output channel of a wide parameter, and for each input channel if it has some, the narrow one."""
    parts = [[sizes] for sizes in zip(shape[:2], target[:2], strict=True)]
    skips = _skip_channels(name, narrow), _skip_channels(name, wide)
    if skips[0]:
        ((narrow_size, wide_size),) = parts[-1]
        parts[-1] = [(narrow_size - skips[0], wide_size - skips[1]), skips]
    elif ".time_emb_proj." in name and wide.config.resnet_time_scale_shift == "scale_shift":
        parts[0] = [(shape[0] // 2, target[0] // 2)] * 2  # the scales, then the shifts
    for axis in _axes_with_spare(name, wide) if num_spare else ():
        parts[axis] += _with_spare(*parts[axis].pop(), num_spare)
    axes = [_copies(axis) for axis in parts]
    if heads := HEADS.match(name):
        axis = 0 if heads["makes"] else 1
        head_dim = wide.config.attention_head_dim or shape[axis]
        axes[axis] = _copies_of_heads(shape[axis], target[axis], head_dim)
    return axes[0], axes[1] if len(axes) > 1 else None


def _axes_with_spare(name: str, unet: UNet2DModel) -> list[int]:
    """Return the axes of a parameter that have spare channels: 0 for what it makes or normalizes, 1 for what it reads."""
    last = last_resnet(unet)
    finest = last.rpartition(".")[0]
    makes = (
        rf"conv_in|down_blocks\.0\.resnets\.\d+\.(norm1|conv2)|{finest}\.\d+\.norm1|{last}\.(conv2|conv_shortcut)"
        r"|conv_norm_out"
    )
    reads = (
        rf"down_blocks\.0\.(resnets\.\d+\.conv1|downsamplers\.0\.conv)|{finest}\.\d+\.(conv1|conv_shortcut)|conv_out"
    )
    module, _, leaf = name.rpartition(".")
    axes = [0] if re.fullmatch(makes, module) else []
    return [*axes, 1] if leaf == "weight" and re.fullmatch(reads, module) else axes


def _with_spare(narrow: int, wide: int, num_spare: int) -> list[tuple[int, int]]:
    """Return parts that end with spare channels; the others get as many copies each or, the last of them, one fewer."""
    rest = wide - num_spare
    most = -(-rest // narrow)
    first = rest - narrow * (most - 1)
    return [(first, first * most), (narrow - first, (narrow - first) * (most - 1)), (0, num_spare)]


def _copies(parts: list[tuple[int, int]]) -> torch.Tensor:
    """Return the narrow channel behind each wide one, copies side by side, for parts of (narrow, wide) channels each."""
    origins, first = [], 0
    for narrow, wide in parts:
        origins.append(first + torch.arange(wide) * narrow // wide if narrow else torch.full((wide,), SPARE))
        first += narrow
    return torch.cat(origins)


def _copies_of_heads(narrow: int, wide: int, head_dim: int) -> torch.Tensor:
    """Return the narrow channel behind each wide one where heads are copied as a whole."""
    heads = _copies([(narrow // head_dim, wide // head_dim)])
    return (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()


def share_inputs(weight: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
    """Share what a weight `[O,I,...]` reads from each input channel out to that channel's copies."""
    shares = SMALLEST_SHARE + torch.rand(len(weight), len(origins))
    shares[:, origins == SPARE] = 0
    totals = torch.zeros(len(weight), weight.shape[1]).index_add_(1, origins.clamp(min=0), shares)
    return weight[:, origins] * (shares / totals[:, origins]).reshape(shares.shape + (1,) * (weight.ndim - 2))


def _with_more_frequencies(weight: torch.Tensor, width: int, freq_shift: float) -> torch.Tensor:
    """Read the sines and cosines of the frequencies that both time embeddings have; the others begin without effect."""
    half, wide_half = weight.shape[1] // 2, width // 2
    kept = torch.arange(half) * (wide_half - freq_shift) / (half - freq_shift)
    columns = torch.cat([kept.round().long(), wide_half + kept.round().long()])
    widened = weight.new_zeros(len(weight), width)
    widened[:, columns] = weight
    return widened
