"""Networks that something was put around."""

from typing import Any


def unwrap(network: Any) -> Any:
    """Return the network itself, without what `torch.compile`, `DataParallel` or accelerate put around it."""
    for wrapped in ("_orig_mod", "module"):
        if (inner := getattr(network, wrapped, None)) is not None:
            return unwrap(inner)
    return network
