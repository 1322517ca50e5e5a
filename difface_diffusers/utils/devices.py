"""Which device to run on, and what one cannot do."""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch


WITHOUT_DOUBLE = ("mps",)  # types of devices


def best_device() -> str:
    """Return the name of the fastest device of this machine."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def in_double(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor in float64: where it is, or on the CPU if its device has no such numbers."""
    return (tensor.cpu() if tensor.device.type in WITHOUT_DOUBLE else tensor).double()
