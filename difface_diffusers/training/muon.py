"""Muon: steps of equal size in all directions of a weight that is a matrix, and Adam's for the others.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of the steps is that of
J. Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982), which lets learning rates of AdamW stand.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


MOMENTUM = 0.95
ITERATIONS = 5  # of Newton and Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: the fastest that end between 0.7 and 1.2
RMS = 0.2  # of a step, in learning rates: about what AdamW's have
SMALLEST_SIDE = 16  # of what counts as a matrix: colors, heads and norms are no directions to be evened out
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


class Muon(torch.optim.Optimizer):
    """Gives each matrix its averaged gradient with all singular values made equal, and whatever else an AdamW step.

    A convolution counts as the matrix of its output channels by all the rest.

    Args:
        parameters: of the model.
        lr: learning rate, above 0.
        weight_decay: as AdamW's, at least 0.
        precision: what the matrices are multiplied in; bfloat16 does where it is fast.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "fused": False})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # ty: ignore[incompatible-method-override]
        """Update all weights that have a gradient; a `closure` is not called."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = self._matrix_update(weight) if is_matrix(weight) else self._adam_update(weight)
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _matrix_update(self, weight: torch.Tensor) -> torch.Tensor:
        state = self.state[weight]
        if not state:
            state["average"] = torch.zeros_like(weight)
        state["average"].lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(state["average"], MOMENTUM).flatten(1)  # Nesterov's
        update = orthogonalize(ahead.to(self.precision)).to(weight.dtype)
        return update.view(weight.shape) * (RMS * max(update.shape) ** 0.5)

    def _adam_update(self, weight: torch.Tensor) -> torch.Tensor:
        state, (first, second) = self.state[weight], BETAS
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        state["exp_avg"].lerp_(weight.grad, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
        step = state["step"].item()
        deviation = (state["exp_avg_sq"] / (1 - second**step)).sqrt_().add_(EPSILON)
        return state["exp_avg"] / (1 - first**step) / deviation


def is_matrix(weight: torch.Tensor) -> bool:
    """Return whether a weight has directions to be evened out."""
    return weight.ndim > 1 and min(len(weight), weight[0].numel()) >= SMALLEST_SIDE


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix `[M,N]` with its singular vectors, and values of 0.7 to 1.2 for all but the smallest; of zeros, zeros."""
    tall = len(matrix) > matrix.shape[1]
    rows = matrix.T if tall else matrix
    rows = rows / (rows.norm() + 1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = rows @ rows.T
        rows = first * rows + (third * square + fifth * square @ square) @ rows
    return rows.T if tall else rows
