"""RRDBNet, the generator of ESRGAN and Real-ESRGAN: enlarges any picture, here what lies around the faces."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .estimator import check_positive, pad_to_multiple


RESIDUAL_SHARE = 0.2  # of what a block adds
FOLDING = {
    4: 1,
    2: 2,
    1: 4,
}  # by scale: the body always enlarges by four, so smaller scales begin with a smaller picture


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the answers of all before it (ESRGAN, arXiv 1809.00219, section 3.1)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(channels + number * growth, growth, 3, padding=1) for number in range(4)
        )
        self.conv5 = nn.Conv2d(channels + 4 * growth, channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape, `[B,C,H,W]`."""
        seen = features
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(convolution(seen), 0.2)], dim=1)
        return features + RESIDUAL_SHARE * self.conv5(seen)


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks with a residual connection around them."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(channels, growth) for _ in range(3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape, `[B,C,H,W]`."""
        return features + RESIDUAL_SHARE * self.rdb3(self.rdb2(self.rdb1(features)))


class RRDBNet(ModelMixin, ConfigMixin):
    """Enlarges RGB pictures by `scale` (Real-ESRGAN, arXiv 2107.10833, section 3.4).

    Args:
        scale: 1, 2 or 4.
        num_channels: channels of the body.
        num_blocks: how many times three dense blocks it has.
        growth_channels: channels that each convolution of a dense block adds.

    Raises:
        ValueError: an argument is out of range.
    """

    @register_to_config
    def __init__(
        self, scale: int = 4, num_channels: int = 64, num_blocks: int = 23, growth_channels: int = 32
    ) -> None:
        super().__init__()
        check_positive(num_channels=num_channels, num_blocks=num_blocks, growth_channels=growth_channels)
        if scale not in FOLDING:
            raise ValueError(f"`scale` is {scale}; it must be 1, 2 or 4.")
        self.conv_first = nn.Conv2d(3 * FOLDING[scale] ** 2, num_channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualDenseBlocks(num_channels, growth_channels) for _ in range(num_blocks)))
        self.conv_body = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_up1 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_up2 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_hr = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(num_channels, 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge pictures.

        Args:
            image: `[B,3,H,W]`, RGB in [0,1], any H and W.

        Returns:
            `[B,3,scale*H,scale*W]`, about [0,1].
        """
        height, width = (self.config.scale * side for side in image.shape[-2:])
        folding = FOLDING[self.config.scale]
        shallow = self.conv_first(F.pixel_unshuffle(pad_to_multiple(image, folding), folding))
        features = shallow + self.conv_body(self.body(shallow))
        for convolution in (self.conv_up1, self.conv_up2):
            features = F.leaky_relu(convolution(F.interpolate(features, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(features), 0.2))[..., :height, :width]
