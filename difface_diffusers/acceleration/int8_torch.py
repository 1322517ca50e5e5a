"""The releases of torch that `int8_layers` was tried with: it calls private operators, which may change with any other."""

from importlib import import_module

import torch


OLDEST, NEWEST = (2, 11), (2, 14)  # that the layers were tried with; compiled, all but 2.12


def require_torch() -> None:
    """Let torch define the private operators that layers in 8 bits call.

    Raises:
        ImportError: the layers were not tried with this torch.
    """
    release = tuple(int(number) for number in torch.__version__.split(".")[:2])
    if not OLDEST <= release <= NEWEST:
        raise ImportError(
            f"counting in 8 bits by torch is experimental and made for {accepted_releases()}, whose private operators it"
            f" calls; installed is torch {torch.__version__}"
        )
    import_module("torch.ao.quantization.fx._decomposed")  # defines quantize_per_tensor, fused with what it follows


def accepted_releases() -> str:
    """Return the range in words."""
    oldest, newest = (".".join(map(str, release)) for release in (OLDEST, NEWEST))
    return f"torch {oldest}" if oldest == newest else f"torch {oldest} to {newest}"
