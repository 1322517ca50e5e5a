"""SwinIR's block in 8 bits on a CPU: everything between its linear layers is rearranged and read as integers."""

import torch
import torch.nn.functional as F
from torch import nn

from ..models.swinir import SwinBlock, relative_position_index, shifted_window_mask
from .int8_layers import Inputs, Int8Linear


class Int8SwinBlock(nn.Module):
    """Stands for a `SwinBlock` that is not in training: its linear layers count in 8 bits, and their neighbors are fused.

    A normalized row is rounded at once, and it is its integers that move into windows. They stay there through attention,
    which runs in float32, where it is faster than in bfloat16. The first layer of the perceptron answers, through its GELU,
    in the integers that the second takes, and that one adds the block's input.

    Args:
        block: Its weights are copied, but for those of the norms, which are shared.
        inputs: What each of its four linear layers took, by its name in the block.
    """

    LAYERS = "attn.qkv", "attn.proj", "mlp_in", "mlp_out"

    def __init__(self, block: SwinBlock, inputs: dict[str, Inputs]) -> None:
        super().__init__()
        self.shift = block.shift
        self.window_size, self.num_heads = block.attn.window_size, block.attn.num_heads
        self.norm_attn, self.norm_mlp = block.norm_attn, block.norm_mlp
        self.qkv = Int8Linear(block.attn.qkv, inputs["attn.qkv"])
        self.proj = Int8Linear(block.attn.proj, inputs["attn.proj"])
        self.mlp_in = Int8Linear(block.mlp_in, inputs["mlp_in"])
        self.mlp_out = Int8Linear(block.mlp_out, inputs["mlp_out"])
        table = block.attn.bias_table.detach()
        # Attributes, not buffers: `to` must leave them in single precision.
        self.bias = F.embedding(relative_position_index(self.window_size, table.device), table).permute(2, 0, 1)
        # At hand for maps of the size that was watched: a compiler would work the caller's mask out anew in every block.
        self.map_size = inputs["attn.qkv"].shape[1:3]
        self.mask = shifted_window_mask(*self.map_size, self.window_size, table.device)

    def forward(self, x: torch.Tensor, position_index: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map `[B,H,W,C]` to the same shape; only a shifted block looks at `mask`, and none at `position_index`."""
        batch, *map_size, dim = x.shape
        windows = self._to_windows(self.qkv.round(self.norm_attn(x)))
        qkv = self.qkv.count(windows, torch.float32).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [windows, heads, side**2, channels of a head]
        bias = self.bias[None]
        if self.shift:
            mask = self.mask if torch.Size(map_size) == self.map_size else mask
            bias = (bias + mask[:, None]).repeat(batch, 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        branch = self.proj.count(self.proj.round(attended), x.dtype)

        rows = (x + self._from_windows(branch, x.shape)).view(-1, dim)
        hidden = self.mlp_in.count_for(self.mlp_out, self.mlp_in.round(self.norm_mlp(rows)), "gelu")
        return self.mlp_out.count(hidden, x.dtype, added=rows).view(x.shape)

    def _to_windows(self, x: torch.Tensor) -> torch.Tensor:
        """Cut `[B,H,W,C]` into windows, `[windows of all images, side**2, C]`."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        batch, height, width, dim = x.shape
        side = self.window_size
        x = x.view(batch, height // side, side, width // side, side, dim)
        return x.transpose(2, 3).reshape(-1, side * side, dim)

    def _from_windows(self, windows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Put the windows back together; `shape` is that of the map, `[B,H,W,C]`."""
        batch, height, width, dim = shape
        side = self.window_size
        x = windows.view(batch, height // side, width // side, side, side, dim).transpose(2, 3).reshape(shape)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x
