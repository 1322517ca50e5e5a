"""SwinIR as a diffused estimator: a transformer over shifted windows that restores a face in one pass."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  the loader looks this name up in the module
from torch import nn

from .estimator import DiffusedEstimator, check_positive, is_power_of_two, pad_to_multiple


RGB_MEAN = (0.4488, 0.4371, 0.4040)  # subtracted on the way in, added on the way out; part of no checkpoint
REFINEMENT_FOLD = 2
BLOCKED = -100.0  # attention logit between pixels that are neighbors only because the map was rolled


def relative_position_index(window: int, device: torch.device) -> torch.Tensor:
    """Row of the bias table for every pair of pixels in a window.

    Args:
        window: side of the window, in pixels of the feature map.
        device: where the answer lives.

    Returns:
        int64 `[window**2, window**2]`, query by key, values 0 to `(2 * window - 1)**2 - 1`.
    """
    y, x = torch.meshgrid(*2 * [torch.arange(window, device=device)], indexing="ij")
    y, x = y.flatten(), x.flatten()
    offset_y = y[:, None] - y + window - 1
    offset_x = x[:, None] - x + window - 1
    return offset_y * (2 * window - 1) + offset_x


def shifted_window_mask(height: int, width: int, window: int, device: torch.device) -> torch.Tensor:
    """Mask that keeps apart what rolling the map by `window // 2` has brought together.

    Args:
        height: of the feature map, a multiple of `window`.
        width: of the feature map, a multiple of `window`.
        window: side of the window.
        device: where the answer lives.

    Returns:
        float32 `[windows, window**2, window**2]`, windows in row-major order; 0 or `BLOCKED`.
    """
    shift = window // 2

    def strips(side: int) -> torch.Tensor:
        position = torch.arange(side, device=device)
        return (position >= side - window).long() + (position >= side - shift).long()

    regions = 3 * strips(height)[:, None] + strips(width)
    regions = regions.view(height // window, window, width // window, window).transpose(1, 2).flatten(2).flatten(0, 1)
    return (regions[:, :, None] != regions[:, None, :]).float() * BLOCKED


def check_groups(depths: Sequence[int], num_heads: Sequence[int], embed_dim: int) -> None:
    """Raise a `ValueError` for groups of blocks that cannot be built."""
    if len(depths) == 0 or len(depths) != len(num_heads):
        raise ValueError(
            f"`depths` is {depths} and `num_heads` is {num_heads}; both need one entry per group, at least one."
        )
    for depth, heads in zip(depths, num_heads, strict=True):
        check_positive(depths=depth, num_heads=heads)
        if embed_dim % heads:
            raise ValueError(f"`embed_dim` is {embed_dim}; it must be a multiple of each of `num_heads`, {num_heads}.")


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Softmax attention with a bias.

    Args:
        query: `[B,N,T,C]`, as the next two: T tokens in each of N windows and heads.
        key: what queries are compared with.
        value: what is averaged.
        bias: added to the logits, `[1,N,T,T]`.

    Returns:
        `[B,N,T,C]`.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not query.requires_grad:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    # The gradients of torch's own attention are matrices that are not contiguous, which a CPU takes one by one in bfloat16.
    (*shape, tokens, channels), scale = query.shape, query.shape[-1] ** -0.5
    keys = key.reshape(-1, tokens, channels).transpose(1, 2).contiguous()
    logits = torch.bmm((query * scale).reshape(-1, tokens, channels), keys).view(*shape, tokens, tokens) + bias
    weights = logits.softmax(dim=-1).to(value.dtype).view(-1, tokens, tokens)
    return torch.bmm(weights, value.reshape(-1, tokens, channels)).view(*shape, tokens, channels)


class WindowAttention(nn.Module):
    """Multi-head attention inside each window of a feature map, with a learned bias per relative position."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, position_index: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend; `x` is `[B,H,W,C]`, `mask` one of `shifted_window_mask` or `None`."""
        batch, height, width, dim = x.shape
        side = self.window_size
        rows, columns = height // side, width // side

        qkv = self.qkv(x).view(batch, rows, side, columns, side, 3, self.num_heads, dim // self.num_heads)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # [3, B, rows, columns, heads, side, side, channels of a head]
        query, key, value = qkv.reshape(3, batch, -1, side * side, dim // self.num_heads).unbind()

        bias = F.embedding(position_index, self.bias_table).permute(2, 0, 1)  # [heads, side**2, side**2]
        if mask is None:
            bias = bias.expand(rows * columns, -1, -1, -1)
        else:
            bias = bias + mask[:, None]
        bias = bias.flatten(0, 1)[None].to(query.dtype)
        out = attend(query, key, value, bias)

        out = out.view(batch, rows, columns, self.num_heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return self.proj(out.reshape(batch, height, width, dim))


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole images of the batch while training, and scales up what is left."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer of `x`'s shape `[B,...]`; `x` itself outside training."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[:1] + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * (keep / (1 - self.rate)).to(x.dtype)


class SwinBlock(nn.Module):
    """Window attention, then a two-layer perceptron, each normalized before and added to its input."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, mlp_ratio: float, shifted: bool, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.shift = window_size // 2 if shifted else 0
        self.norm_attn = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window_size)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, int(dim * mlp_ratio))
        self.mlp_out = nn.Linear(int(dim * mlp_ratio), dim)
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(self, x: torch.Tensor, position_index: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map `[B,H,W,C]` to the same shape; only a shifted block looks at `mask`."""
        branch = self.norm_attn(x)
        if self.shift:
            branch = branch.roll((-self.shift, -self.shift), (1, 2))
            branch = self.attn(branch, position_index, mask).roll((self.shift, self.shift), (1, 2))
        else:
            branch = self.attn(branch, position_index, None)
        x = x + self.drop_path(branch)
        return x + self.drop_path(self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x)))))


class SwinGroup(nn.Module):
    """Swin blocks, every second one shifted, and a convolution, added to the group's input."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, mlp_ratio: float, drop_path_rates: Sequence[float]
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window_size, mlp_ratio, shifted=index % 2 == 1, drop_path_rate=rate)
            for index, rate in enumerate(drop_path_rates)
        )
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: torch.Tensor, position_index: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map `[B,H,W,C]` to the same shape."""
        residual = x
        for block in self.blocks:
            x = block(x, position_index, mask)
        return residual + self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Refinement(nn.Module):
    """Residual blocks that look at an answer beside the image that it answers, both folded by 2, and correct it.

    In each pixel they decide how much of the image itself to take back, and what to add. They begin with nothing of both.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(2 * channels * REFINEMENT_FOLD**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.conv_out = nn.Conv2d(width, (channels + 1) * REFINEMENT_FOLD**2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(cast(torch.Tensor, self.conv_out.bias))

    def forward(self, image: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """Return the corrected answer; all three are `[B,C,H,W]`, H and W even."""
        x = self.conv_in(F.pixel_unshuffle(torch.cat([image, answer], dim=1), REFINEMENT_FOLD))
        for block in self.blocks:
            x = x + block(x)
        correction = F.pixel_shuffle(self.conv_out(x), REFINEMENT_FOLD)
        share, addend = correction[:, :1], correction[:, 1:]
        return answer + share * (image - answer) + addend


class SwinIREstimator(DiffusedEstimator):
    """SwinIR (arXiv 2108.10257) in the form that DifFace (arXiv 2212.06512) restores faces with.

    The image is folded into channels (pixel unshuffle) by `scale`, refined by groups of shifted-window blocks at that
    resolution, and enlarged by `scale` again, so that the answer has the size of the input. The defaults are those of
    the official 512 checkpoint, 15.8 M parameters.

    Args:
        in_channels: channels of the image and of the answer.
        embed_dim: channels of the feature map inside the groups, a multiple of every entry of `num_heads`.
        depths: blocks in each group.
        num_heads: attention heads in each group, as many entries as `depths`.
        window_size: side of an attention window, in pixels of the folded map.
        mlp_ratio: width of a block's perceptron in units of `embed_dim`.
        scale: folding and enlargement factor, a power of two.
        num_feat: channels while enlarging.
        img_range: factor on the image once its mean has been taken off.
        drop_path_rate: stochastic depth of the last block, in [0,1); it grows linearly from 0 at the first.
        image_skips: let each step of the enlargement see the image too, folded to that step's size. It brings past the
            folded map what its `num_feat` channels cannot hold: on a small face, where a fold is as large as an eye,
            most details. The official network has none.
        refinement_blocks: residual blocks, twice as wide as `num_feat`, that compare the enlarged answer with the image at
            half its size and correct it: what a good image shows need not pass through the fold. They need a `scale` of
            2 or more; the official network has none.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["SwinGroup"]  # noqa: RUF012  diffusers reads a plain list here
    _repeated_blocks = ["SwinBlock"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = ["norm"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        embed_dim: int = 180,
        depths: tuple[int, ...] = (6,) * 8,
        num_heads: tuple[int, ...] = (6,) * 8,
        window_size: int = 8,
        mlp_ratio: float = 2.0,
        scale: int = 8,
        num_feat: int = 64,
        img_range: float = 1.0,
        drop_path_rate: float = 0.1,
        image_skips: bool = False,
        refinement_blocks: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            embed_dim=embed_dim,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            scale=scale,
            num_feat=num_feat,
            img_range=img_range,
        )
        if not is_power_of_two(scale):
            raise ValueError(f"`scale` is {scale}; it must be a power of two: 1, 2, 4, 8, ...")
        if refinement_blocks < 0 or (refinement_blocks and scale < REFINEMENT_FOLD):
            raise ValueError(
                f"`refinement_blocks` is {refinement_blocks} and `scale` {scale}; there must be 0 or more, and with any the"
                f" scale must be at least {REFINEMENT_FOLD}."
            )
        check_groups(depths, num_heads, embed_dim)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"`drop_path_rate` is {drop_path_rate}; it must lie in [0,1).")

        self.conv_in = nn.Conv2d(in_channels * scale**2, embed_dim, 3, padding=1)
        self.norm_in = nn.LayerNorm(embed_dim)
        last_block = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * block / last_block for block in range(sum(depths))])
        self.groups = nn.ModuleList(
            SwinGroup(embed_dim, heads, window_size, mlp_ratio, [next(rates) for _ in range(depth)])
            for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.norm_out = nn.LayerNorm(embed_dim)
        self.conv_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)

        self.conv_feat = nn.Conv2d(embed_dim, num_feat, 3, padding=1)
        self.conv_up = nn.ModuleList(
            nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(scale.bit_length() - 1)
        )
        self.conv_skip = nn.ModuleList(
            nn.Conv2d(in_channels * (scale >> step) ** 2, num_feat, 3, padding=1)
            for step in range(1, scale.bit_length() if image_skips else 1)
        )
        self.conv_refine = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_out = nn.Conv2d(num_feat, in_channels, 3, padding=1)
        self.refinement = Refinement(in_channels, 2 * num_feat, refinement_blocks) if refinement_blocks else None

        self.gradient_checkpointing = False
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.bias_table, std=0.02)
        for parameter in self.conv_skip.parameters():  # a network with skips starts as the one without
            nn.init.zeros_(parameter)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Estimate the clean face.

        Args:
            image: degraded face `[B,C,H,W]` in [0,1], RGB if C is 3; any H and W, the network pads and crops by itself.

        Returns:
            Clean face of `image`'s shape on the same scale, not clamped.
        """
        channels, scale = self.config["in_channels"], self.config["scale"]
        window, img_range = self.config["window_size"], self.config["img_range"]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f"`image` has shape {list(image.shape)}; it must be [B,{channels},H,W].")
        height, width = image.shape[-2:]
        means = RGB_MEAN if channels == 3 else (0.0,) * channels
        mean = torch.cat([image.new_full((1, 1, 1), value) for value in means])  # filled there: a GPU waits for a copy

        # 1. Shallow features of the folded image: [B, embed_dim, h, w], sides multiples of the window.
        padded = (pad_to_multiple(image, scale * window) - mean) * img_range
        shallow = self.conv_in(F.pixel_unshuffle(padded, scale))

        # 2. Deep features, of the same shape, channels last inside.
        x = self.norm_in(shallow.permute(0, 2, 3, 1))
        position_index = relative_position_index(window, x.device)
        mask = shifted_window_mask(x.shape[1], x.shape[2], window, x.device)
        for group in self.groups:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(group, x, position_index, mask)  # ty: ignore[not-callable]  set by diffusers
            else:
                x = group(x, position_index, mask)
        deep = self.conv_body(self.norm_out(x).permute(0, 3, 1, 2)) + shallow

        # 3. Enlargement back to the padded size.
        x = F.leaky_relu(self.conv_feat(deep), 0.01)
        for step, conv in enumerate(self.conv_up):
            x = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
            if self.conv_skip:
                x = x + self.conv_skip[step](F.pixel_unshuffle(padded, scale >> (step + 1)))
            x = F.leaky_relu(x, 0.2)
        x = self.conv_out(F.leaky_relu(self.conv_refine(x), 0.2))
        if self.refinement is not None:
            x = self.refinement(padded, x)
        return (x / img_range + mean)[..., :height, :width]
