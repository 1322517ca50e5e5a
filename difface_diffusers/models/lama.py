"""LaMa as a diffused estimator for inpainting: fast Fourier convolutions that see the whole face in every layer."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  the loader looks this name up in the module
from torch import nn

from .estimator import DiffusedEstimator, check_positive


MASK_CHANNELS = 1


def reflect_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, but for its stride, by mirroring the border."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False, padding_mode="reflect")


class SpectralConv(nn.Module):
    """A convolution over the whole map: 1 x 1 in the Fourier domain, between two 1 x 1 convolutions.

    The Fourier transforms run in float32 whatever the dtype of the weights.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv_in = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.norm_in = nn.BatchNorm2d(hidden)
        self.conv_fourier = nn.Conv2d(2 * hidden, 2 * hidden, 1, bias=False)
        self.norm_fourier = nn.BatchNorm2d(2 * hidden)
        self.conv_out = nn.Conv2d(hidden, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B,C,H,W]` to `[B,out_channels,H,W]`."""
        x = F.relu(self.norm_in(self.conv_in(x)))
        return self.conv_out(x + self.convolve_spectrum(x))

    def convolve_spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `[B,C,H,W]` in the Fourier domain; real and imaginary parts are channels next to each other."""
        spectrum = torch.view_as_real(torch.fft.rfft2(x.float(), norm="ortho"))  # [B,C,H,W//2+1,2]
        channels = spectrum.movedim(-1, 2).flatten(1, 2).to(x.dtype)
        channels = F.relu(self.norm_fourier(self.conv_fourier(channels))).float()
        spectrum = channels.unflatten(1, (-1, 2)).movedim(2, -1).contiguous()
        return torch.fft.irfft2(torch.view_as_complex(spectrum), s=x.shape[-2:], norm="ortho").to(x.dtype)


class FourierConv(nn.Module):
    """A convolution of a map in two parts, a local and a global one, each followed by batch normalization and ReLU.

    The global part reaches itself through a `SpectralConv`; all other paths are ordinary convolutions. A part of no
    channels is `None`.
    """

    def __init__(
        self, in_channels: tuple[int, int], out_channels: tuple[int, int], kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()
        (in_local, in_global), (out_local, out_global) = in_channels, out_channels
        self.local_to_local = reflect_conv(in_local, out_local, kernel_size, stride)
        self.local_to_global = reflect_conv(in_local, out_global, kernel_size, stride) if out_global else None
        self.global_to_local = reflect_conv(in_global, out_local, kernel_size, stride) if in_global else None
        self.global_to_global = SpectralConv(in_global, out_global) if in_global else None
        self.norm_local = nn.BatchNorm2d(out_local)
        self.norm_global = nn.BatchNorm2d(out_global) if out_global else None

    def forward(
        self, x_local: torch.Tensor, x_global: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map both parts, `[B,C,H,W]` each."""
        out_local = self.local_to_local(x_local)
        if x_global is not None and self.global_to_local is not None:
            out_local = out_local + self.global_to_local(x_global)
        out_local = F.relu(self.norm_local(out_local))
        if self.local_to_global is None or self.norm_global is None:
            return out_local, None
        out_global = self.local_to_global(x_local)
        if x_global is not None and self.global_to_global is not None:
            out_global = out_global + self.global_to_global(x_global)
        return out_local, F.relu(self.norm_global(out_global))


class FourierBlock(nn.Module):
    """Two Fourier convolutions, added to their input."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = FourierConv(channels, channels, kernel_size=3)
        self.conv2 = FourierConv(channels, channels, kernel_size=3)

    def forward(self, x_local: torch.Tensor, x_global: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map both parts to the same shapes."""
        out_local, out_global = self.conv2(*self.conv1(x_local, x_global))
        return x_local + out_local, x_global + out_global


class LaMaEstimator(DiffusedEstimator):
    """LaMa (Suvorov et al., arXiv 2109.07161) in the form that DifFace (arXiv 2212.06512) inpaints faces with.

    The defaults are those of the official 256 checkpoint, 51.0 M parameters.

    Args:
        base_channels: channels at full size; each down-sampling doubles them.
        num_downsamples: halvings of the size before the residual blocks.
        num_blocks: residual blocks.
        global_ratio: share of the channels of the residual blocks that are global, in (0,1).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["FourierBlock"]  # noqa: RUF012  diffusers reads a plain list here
    _skip_layerwise_casting_patterns = ["norm"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        base_channels: int = 64,
        num_downsamples: int = 3,
        num_blocks: int = 18,
        global_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        check_positive(base_channels=base_channels, num_downsamples=num_downsamples, num_blocks=num_blocks)
        widths = [base_channels * 2**level for level in range(num_downsamples + 1)]
        channels_global = int(widths[-1] * global_ratio)
        inner = (widths[-1] - channels_global, channels_global)
        if min(inner) < 1 or channels_global % 2:
            raise ValueError(
                f"`global_ratio` is {global_ratio}, which makes {channels_global} of {widths[-1]} channels global; both"
                " parts need channels, and the global one an even number."
            )

        outputs = [*((width, 0) for width in widths[1:-1]), inner]
        inputs = [(width, 0) for width in widths[:-1]]
        self.conv_in = FourierConv((3 + MASK_CHANNELS, 0), (base_channels, 0), kernel_size=7)
        self.down = nn.ModuleList(
            FourierConv(before, after, kernel_size=3, stride=2) for before, after in zip(inputs, outputs, strict=True)
        )
        self.blocks = nn.ModuleList(FourierBlock(inner) for _ in range(num_blocks))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1)
            for width in reversed(widths[:-1])
        )
        self.norm_up = nn.ModuleList(nn.BatchNorm2d(width) for width in reversed(widths[:-1]))
        self.conv_out = nn.Conv2d(base_channels, 3, 7, padding=3, padding_mode="reflect")
        self.gradient_checkpointing = False

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Estimate the whole face.

        Args:
            image: `[B,3,H,W]`, RGB in [0,1], 0 where it is missing; any H and W.
            mask: `[B,1,H,W]`, 1 where `image` is missing, else 0.

        Returns:
            The face of `image`'s shape, in (0,1).
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"`image` has shape {list(image.shape)}; it must be [B,3,H,W].")
        expected = [image.shape[0], MASK_CHANNELS, *image.shape[-2:]]
        if list(mask.shape) != expected:
            raise ValueError(f"`mask` has shape {list(mask.shape)}; it must be {expected}, as `image`.")
        height, width = image.shape[-2:]

        # 1. The coarse map in two parts: [B,C,h,w] each.
        x_local, x_global = self.conv_in(enlarge_border(torch.cat([image, mask], dim=1), self.smallest_side))
        for layer in self.down:
            x_local, x_global = layer(x_local, x_global)

        # 2. Refinement at that size.
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x_local, x_global = self._gradient_checkpointing_func(block, x_local, x_global)  # ty: ignore[not-callable]  set by diffusers
            else:
                x_local, x_global = block(x_local, x_global)

        # 3. Back to full size; sides that the halvings do not divide come out larger.
        x = torch.cat([x_local, x_global], dim=1)
        for conv, norm in zip(self.up, self.norm_up, strict=True):
            x = F.relu(norm(conv(x)))
        return self.conv_out(x).sigmoid()[..., :height, :width]

    @property
    def smallest_side(self) -> int:
        """The least height and width, pixels, whose coarsest map can be mirrored at its border."""
        return 2 ** (self.config["num_downsamples"] + 1)


def enlarge_border(x: torch.Tensor, smallest_side: int) -> torch.Tensor:
    """Repeat the last row and column of `[B,C,H,W]` until no side is shorter than `smallest_side`."""
    missing = [max(smallest_side - side, 0) for side in x.shape[-2:]]
    return F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x
