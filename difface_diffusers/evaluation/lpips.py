"""LPIPS, the distance of two images in AlexNet's features (Zhang et al., CVPR 2018), version 0.1."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..imaging.tensors import check_images
from ..utils.devices import in_double
from ..utils.extras import import_extra
from .metrics import NEEDED_BY


ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
SMALLEST = 31  # side, pixels, from which every layer sees something
# Mean and deviation of the images that AlexNet was trained on, on the scale of [-1, 1].
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class AlexNetFeatures(nn.Module):
    """AlexNet's five convolutional layers, with the names that their weights have in torchvision's file."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what each layer sees of `[B,3,H,W]`: five times `[B,C,h,w]`."""
        answers = []
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, nn.ReLU):
                answers.append(images)
        return answers


def load_lpips(path: str | Path) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Load LPIPS (AlexNet) from torchvision's weights of AlexNet.

    The weights of its heads come with torchmetrics (extra `metrics`).

    Args:
        path: of `alexnet-owt-7be5be79.pth`; `ALEXNET_URL` is where it is.

    Returns:
        The metric: of two batches of RGB `[B,3,H,W]` in [0, 1], each side at least 31 pixels, `[B]` float64, at least 0; 0
        for equal images.

    Raises:
        ValueError: the file is missing or does not hold those weights.
    """
    alexnet = AlexNetFeatures()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        alexnet.load_state_dict({name: weights[name] for name in alexnet.state_dict()})
    except Exception as error:
        raise ValueError(f"`path` is {path}, which does not hold the weights of AlexNet ({ALEXNET_URL})") from error
    alexnet.eval().requires_grad_(False)
    heads = _load_heads()

    @torch.no_grad()
    def lpips(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Perceptual distance, see `load_lpips`."""
        check_images({"image": image, "reference": reference})
        if min(image.shape[-2:]) < SMALLEST:
            raise ValueError(f"`image` must be at least {SMALLEST} pixels a side, got {list(image.shape)}")
        answers = zip(alexnet(_normalize(image)), alexnet(_normalize(reference)), heads, strict=True)
        distances = [
            (_to_unit(x) - _to_unit(y)).square().mul(head).sum(dim=1).mean(dim=(1, 2)) for x, y, head in answers
        ]
        return in_double(torch.stack(distances).sum(dim=0))

    return lpips


def _load_heads() -> list[torch.Tensor]:
    """Return the weight of each channel in the five layers, `[C,1,1]` each."""
    folder = Path(import_extra("torchmetrics.functional.image", "metrics", NEEDED_BY).__file__).parent
    heads = torch.load(folder / "lpips_models" / "alex.pth", map_location="cpu", weights_only=True)
    return [heads[f"lin{layer}.model.1.weight"][0] for layer in range(5)]


def _normalize(images: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float().cpu() * 2 - 1 - mean) / deviation


def _to_unit(features: torch.Tensor) -> torch.Tensor:
    """Scale the features of every place, `[B,C,h,w]`, to unit length over the channels."""
    return F.normalize(features, dim=1, eps=1e-10)
