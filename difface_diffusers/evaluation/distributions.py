"""How far a set of images is from another, by the features that a network sees in them: FID and KID.

With an Inception network these are the published metrics; with another the numbers are comparable among themselves only. Both
conventions of face restoration are a matter of what is compared with: the clean faces of the same test set (FID-G), or a set
of other clean faces, such as FFHQ (FID-F).
"""

from collections.abc import Callable
from pathlib import Path

import torch

from ..imaging.tensors import check_images
from ..utils.devices import in_double
from .protocol import KID_SEED, KID_SUBSET_SIZE, KID_SUBSETS


# RGB [B,3,H,W] in [0,1] to features [B,D].
FeatureNetwork = Callable[[torch.Tensor], torch.Tensor]

INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"


def fid(features: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Fréchet distance of two sets of features taken as Gaussian (Heusel et al., 2017).

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` with unbiased covariances. It depends on how many images there are; compare
    values of sets of the same size.

    Args:
        features: `[N,D]`, two images at least.
        references: `[M,D]`, two images at least.

    Returns:
        A float64 scalar, at least 0; 0 for equal sets.
    """
    first, second = _check_features(features, references)
    means = first.mean(dim=0), second.mean(dim=0)
    # C = A^T A, so that tr (C1 C2)^(1/2) is the sum of the singular values of A1 A2^T
    factors = [(part - mean) / (len(part) - 1) ** 0.5 for part, mean in zip((first, second), means, strict=True)]
    overlap = torch.linalg.matrix_norm(_smaller(factors[0]) @ _smaller(factors[1]).T, ord="nuc")
    spread = sum(factor.square().sum() for factor in factors) - 2 * overlap
    return ((means[0] - means[1]).square().sum() + spread).clamp(min=0)


def kid(features: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Kernel distance of two sets of features: squared maximum mean discrepancy (Bińkowski et al., 2018).

    The kernel is `(x.y / D + 1)^3`; the value is the mean of the unbiased estimate over subsets as `protocol` says.

    Args:
        features: `[N,D]`, two images at least.
        references: `[M,D]`, two images at least.

    Returns:
        A float64 scalar; about 0 for sets of one distribution, and then of either sign.
    """
    first, second = _check_features(features, references)
    size = min(len(first), len(second), KID_SUBSET_SIZE)
    generator = torch.Generator().manual_seed(KID_SEED)
    values = []
    for _ in range(KID_SUBSETS):
        x, y = (part[torch.randperm(len(part), generator=generator)[:size]] for part in (first, second))
        within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(x, x), _kernel(y, y)))
        values.append(within / (size * (size - 1)) - 2 * _kernel(x, y).mean())
    return torch.stack(values).mean()


def load_feature_network(path: str | Path) -> FeatureNetwork:
    """Load a feature network from a TorchScript file.

    Its module takes RGB `[B,3,H,W]` of uint8 and returns `[B,D]`, of itself or, like the Inception of `INCEPTION_URL`, which
    resizes to 299 pixels, when it is called with `return_features=True`.

    Args:
        path: of the file, such as `inception-2015-12-05.pt`.

    Returns:
        A function from RGB `[B,3,H,W]` in [0, 1] to features `[B,D]`, float64.

    Raises:
        ValueError: the file is missing or no TorchScript, with the address of the usual one; or, when called, the module's
            answer is not `[B,D]`.
    """
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"`path` is {path}, which cannot be read as TorchScript; FID and KID are usually taken with {INCEPTION_URL}"
        ) from error
    names = {argument.name for argument in module.forward.schema.arguments}
    options = {"return_features": True} if "return_features" in names else {}

    @torch.no_grad()
    def network(images: torch.Tensor) -> torch.Tensor:
        check_images({"images": images})
        features = module((images * 255).round().byte(), **options)
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(f"the network of {path} answered {list(features.shape)}; it must be [B,D]")
        return in_double(features)

    return network


def _check_features(features: torch.Tensor, references: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    for name, part in (("features", features), ("references", references)):
        if part.ndim != 2 or len(part) < 2:
            raise ValueError(f"`{name}` must be [N,D] of 2 images at least, got {list(part.shape)}")
    if features.shape[1] != references.shape[1]:
        received = f"{list(features.shape)} and {list(references.shape)}"
        raise ValueError(f"`features` and `references` must be of one network, got {received}")
    return in_double(features), in_double(references)


def _smaller(factor: torch.Tensor) -> torch.Tensor:
    """Return a matrix with the same product A^T A and no more rows than columns."""
    return torch.linalg.qr(factor, mode="r").R if len(factor) > factor.shape[1] else factor


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
