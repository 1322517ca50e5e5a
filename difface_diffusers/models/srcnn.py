"""SRCNN as a diffused estimator: plain convolutions, the small alternative to SwinIR."""

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  the loader looks this name up in the module
from torch import nn

from .estimator import DiffusedEstimator, check_positive, is_power_of_two, pad_to_multiple


def _draw_weights(network: nn.Module) -> None:
    """Draw weights that keep the strength of the image; with PyTorch's own it fades away in a deep body."""
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, a=0.2, nonlinearity="leaky_relu")
        else:
            nn.init.zeros_(parameter)


class SRCNNEstimator(DiffusedEstimator):
    """A deep SRCNN (after arXiv 1501.00092), DifFace's (arXiv 2212.06512) plain estimator, in both its variants.

    With `down_scale_factor` the network folds the image into channels by that factor, works at that resolution and
    unfolds it again: the answer has the size of the input. Without, it works at the input's own size and its answer is
    `sf` times larger; the pipeline resizes it to the model's size.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer; `None` stands for `in_channels`, the only choice of the same-size variant.
        num_channels: channels of the body; a multiple of `down_scale_factor` squared in the same-size variant, which
            keeps one channel in four whenever it unfolds by two.
        depth: convolutions in the body, plus one.
        sf: factor of the up-sampling variant, a power of two; the same-size variant does not look at it.
        down_scale_factor: factor of the same-size variant, a power of two above 1; `None` selects the up-sampling one.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        num_channels: int = 64,
        depth: int = 8,
        sf: int = 4,
        down_scale_factor: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_channels=num_channels, depth=depth)
        if out_channels is None:
            out_channels = in_channels

        if down_scale_factor is None:
            if not is_power_of_two(sf):
                raise ValueError(f"`sf` is {sf}; it must be a power of two: 1, 2, 4, 8, ...")
            self.head = nn.Conv2d(in_channels, num_channels, 5, padding=2)
            factor, shrinkage = sf, 1
        else:
            if down_scale_factor == 1 or not is_power_of_two(down_scale_factor):
                raise ValueError(f"`down_scale_factor` is {down_scale_factor}; it must be a power of two above 1.")
            if num_channels % down_scale_factor**2:
                raise ValueError(
                    f"`num_channels` is {num_channels}; it must be a multiple of {down_scale_factor**2},"
                    " `down_scale_factor` squared."
                )
            if out_channels != in_channels:
                raise ValueError(
                    f"`out_channels` is {out_channels}; with `down_scale_factor` it must be `in_channels`, {in_channels}."
                )
            self.head = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, num_channels, 3, padding=1))
            for _ in range(down_scale_factor.bit_length() - 2):
                self.head.extend([nn.Conv2d(num_channels, num_channels // 4, 5, padding=2), nn.LeakyReLU(0.2)])
                self.head.extend([nn.PixelUnshuffle(2), nn.Conv2d(num_channels, num_channels, 3, padding=1)])
            factor, shrinkage = down_scale_factor, 4

        self.body = nn.Sequential()
        for _ in range(depth - 1):
            self.body.extend([nn.Conv2d(num_channels, num_channels, 5, padding=2), nn.LeakyReLU(0.2)])

        self.tail = nn.Sequential()
        channels = num_channels
        for _ in range(factor.bit_length() - 1):
            conv = nn.Conv2d(channels, 4 * channels // shrinkage, 3, padding=1)
            self.tail.extend([conv, nn.LeakyReLU(0.2), nn.PixelShuffle(2)])
            channels //= shrinkage
        self.tail.append(nn.Conv2d(channels, out_channels, 5, padding=2))

        _draw_weights(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Estimate the clean face.

        Args:
            image: degraded face `[B,C,H,W]` in [0,1], RGB if C is 3; any H and W, the network pads and crops by itself.

        Returns:
            Clean face on the same scale, not clamped: `[B,C,H,W]` with `down_scale_factor`, else
            `[B,out_channels,sf*H,sf*W]`.
        """
        factor = self.config["down_scale_factor"]
        if factor is None:
            return self.tail(self.body(self.head(image)))
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, factor)
        return self.tail(self.body(self.head(padded)))[..., :height, :width]
