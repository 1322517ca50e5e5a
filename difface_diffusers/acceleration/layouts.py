"""Networks laid out with the channels of their maps innermost, with norms that a compiler fuses with what follows."""

import torch
from torch import nn

from .processor import keep_compiled_code_apart


def to_channels_last(network: nn.Module) -> None:
    """Lay out a network for `torch.compile`: channels innermost, as matrix units want them, and norms that suit that.

    The norms keep their weights and their names, so that the network is saved as before. Without a compiler it is no faster.
    From then on this process shares no compiled code with processors of other vectors (`torch.compiler.config.cache_key_tag`).

    Args:
        network: Changed in place, on any device and in any precision.
    """
    keep_compiled_code_apart()
    network.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]  not in torch's stubs
    for name, norm in list(network.named_modules()):
        if type(norm) in (nn.GroupNorm, nn.LayerNorm):
            network.set_submodule(name, _as_fast_norm(norm))


class ChannelsLastGroupNorm(nn.GroupNorm):
    """A group norm by the mean and the mean square of every channel, which a compiler makes short work of.

    With the channels innermost, that is a reduction along rows; torch's own gathers strided groups.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalized input, `[B,C,...]`."""
        values = input.float()
        batch, channels, *shape = values.shape
        extent = tuple(range(2, values.ndim))
        groups = batch, self.num_groups, -1
        mean = values.mean(extent).view(groups).mean(-1, keepdim=True)
        square = values.square().mean(extent).view(groups).mean(-1, keepdim=True)
        inverse = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        size = channels // self.num_groups
        factor = inverse.expand(-1, -1, size).reshape(batch, channels) * self.weight.float()
        offset = self.bias.float() - mean.expand(-1, -1, size).reshape(batch, channels) * factor
        broadcast = batch, channels, *(1 for _ in shape)
        return (values * factor.view(broadcast) + offset.view(broadcast)).to(input.dtype)


class RowsLayerNorm(nn.LayerNorm):
    """A layer norm of rows, by their mean and mean square: both are sums of one pass, where torch's own takes two.

    The rows of a map are one long list to it, else the compiler may lay out the answer with the channels outside.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalized input, `[...,C]`."""
        values = input.float().reshape(-1, input.shape[-1])
        mean = values.mean(-1, keepdim=True)
        square = values.square().mean(-1, keepdim=True)
        inverse = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        answer = (values - mean) * inverse * self.weight.float() + self.bias.float()
        return answer.to(input.dtype).view(input.shape)


def _as_fast_norm(norm: nn.GroupNorm | nn.LayerNorm) -> ChannelsLastGroupNorm | RowsLayerNorm:
    """Return the fast norm with the weights of a norm of torch's."""
    if isinstance(norm, nn.GroupNorm):
        fast = ChannelsLastGroupNorm(norm.num_groups, norm.num_channels, norm.eps)
    else:
        fast = RowsLayerNorm(list(norm.normalized_shape), norm.eps)
    fast.weight, fast.bias = norm.weight, norm.bias
    return fast
