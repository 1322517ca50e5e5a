"""A SwinIR estimator that begins as the function of a trained one, for larger faces, or wider.

A fold that is twice as large on faces twice as large leaves the folded map as it was, so that all that was learned of faces
there still holds. Every channel of that map may become several, whose readers share it in random proportions, which lets the
copies grow apart.
"""

import math

import torch

from ..models.swinir import SwinIREstimator
from .widening import read_settings, share_inputs


MAY_DIFFER = ("embed_dim", "num_heads", "scale", "drop_path_rate")
LIFT = 1.0  # keeps an added step of the enlargement on the straight side of its activation


def grow(small: SwinIREstimator, large: SwinIREstimator) -> None:
    """Fill an estimator with a smaller one's function. Randomness comes from torch's global stream.

    At the same `scale` both compute the same. At k times the `scale`, the folded map of a face is exactly that which the small
    network makes of the face shrunk by k; the answer is its answer enlarged, but for what convolutions make of smaller pixels.

    Args:
        small: Trained.
        large: Receives the weights; its `embed_dim` and `num_heads` are those of `small` times a whole number, its `scale` too.

    Raises:
        ValueError: The two differ in more than that.
    """
    wider, finer = _factors(small, large)
    source, targets = small.state_dict(), large.state_dict()
    for name, target in targets.items():
        if name not in source:  # an added step of the enlargement: it passes on what it gets
            targets[name] = torch.zeros_like(target)
            if name.startswith("conv_up."):
                torch.nn.init.dirac_(targets[name]) if target.ndim > 1 else targets[name].fill_(LIFT)
            continue
        weight = source[name]
        if name == "conv_in.weight" or (name.startswith("conv_skip.") and target.ndim > 1):
            weight = _read_means(weight, small.config["in_channels"], finer)
        parts = 3 if ".attn.qkv." in name else 1
        if name.endswith(".bias_table"):
            weight = weight.repeat(1, wider)
        elif len(weight) != len(target):
            weight = torch.cat([part.repeat(wider, *[1] * (part.ndim - 1)) for part in weight.chunk(parts)])
        if weight.ndim > 1 and weight.shape[1] != target.shape[1]:
            weight = share_inputs(weight, torch.arange(weight.shape[1]).repeat(wider))
        targets[name] = weight
    if finer > 1:
        lifted = LIFT * source["conv_refine.weight"].sum(dim=(1, 2, 3))
        targets["conv_refine.bias"] = source["conv_refine.bias"] - lifted
    large.load_state_dict(targets)


def _factors(small: SwinIREstimator, large: SwinIREstimator) -> tuple[int, int]:
    """Return how many times the width, and the scale, of `small` the large one has."""
    theirs, ours = read_settings(small), read_settings(large)
    for name in ours:
        if name not in MAY_DIFFER and ours[name] != theirs[name]:
            raise ValueError(f"`{name}` is {ours[name]}; it must be {theirs[name]}, as in the initial weights.")
    for name in ("embed_dim", "scale"):
        if ours[name] % theirs[name]:
            raise ValueError(
                f"`{name}` is {ours[name]}; it must be a multiple of {theirs[name]}, as in the initial weights."
            )
    wider = ours["embed_dim"] // theirs["embed_dim"]
    if ours["num_heads"] != [wider * heads for heads in theirs["num_heads"]]:
        raise ValueError(
            f"`num_heads` is {ours['num_heads']}; it must be {theirs['num_heads']} times {wider}, as `embed_dim` is so many"
            " times that of the initial weights."
        )
    return wider, ours["scale"] // theirs["scale"]


def _read_means(weight: torch.Tensor, channels: int, finer: int) -> torch.Tensor:
    """Let a convolution that reads folded pixels read as many means of `finer` x `finer` of them."""
    outputs, inputs, *kernel = weight.shape
    fold = math.isqrt(inputs // channels)
    weight = weight.view(outputs, channels, fold, fold, *kernel)
    weight = weight.repeat_interleave(finer, dim=2).repeat_interleave(finer, dim=3) / finer**2
    return weight.reshape(outputs, inputs * finer**2, *kernel)
