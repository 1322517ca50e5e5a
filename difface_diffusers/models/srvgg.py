"""SRVGGNetCompact, Real-ESRGAN's small network: plain convolutions at the picture's own size, unfolded at the end."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .estimator import check_positive


class SRVGGNetCompact(ModelMixin, ConfigMixin):
    """Enlarges RGB pictures by `scale`: what it computes is added to the picture's repeated pixels.

    Args:
        scale: 1 or more.
        num_channels: channels of the body.
        num_convs: convolutions between the first and the last.

    Raises:
        ValueError: an argument is not above 0.
    """

    @register_to_config
    def __init__(self, scale: int = 4, num_channels: int = 64, num_convs: int = 16) -> None:
        super().__init__()
        check_positive(scale=scale, num_channels=num_channels, num_convs=num_convs)
        self.body = nn.Sequential(nn.Conv2d(3, num_channels, 3, padding=1), nn.PReLU(num_channels))
        for _ in range(num_convs):
            self.body.extend([nn.Conv2d(num_channels, num_channels, 3, padding=1), nn.PReLU(num_channels)])
        self.body.append(nn.Conv2d(num_channels, 3 * scale**2, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge pictures.

        Args:
            image: `[B,3,H,W]`, RGB in [0,1], any H and W.

        Returns:
            `[B,3,scale*H,scale*W]`, about [0,1].
        """
        scale = self.config.scale
        return F.pixel_shuffle(self.body(image), scale) + F.interpolate(image, scale_factor=scale, mode="nearest")
