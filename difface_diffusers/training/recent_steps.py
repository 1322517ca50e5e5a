"""Figures of the last steps, which stay on the device until somebody looks, so that nobody waits for it in between."""

import math

import torch

from .config import LoopConfig


class RecentSteps:
    """Losses and norms of the gradients of the steps since the last look.

    Args:
        config: of the loop.
    """

    def __init__(self, config: LoopConfig) -> None:
        self.config = config
        self.steps: list[tuple[int, float]] = []
        self.figures: list[torch.Tensor] = []

    def add(self, step: int, rate: float, figures: torch.Tensor) -> None:
        """Take in what came of a step, counted from 0, at a learning rate: loss and norm, `[2]`, on any device."""
        self.steps.append((step, rate))
        self.figures.append(figures)

    def look(self) -> list[float]:
        """Wait for the device and return the losses of the steps since the last look.

        Raises:
            FloatingPointError: a loss or a norm is not finite; names the first step of that kind.
        """
        if not self.steps:
            return []
        steps, figures = self.steps, torch.stack(self.figures).tolist()
        self.steps, self.figures = [], []
        for (step, rate), (loss, norm) in zip(steps, figures, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise FloatingPointError(
                    f"step {step + 1}, at the learning rate {rate:g}, has a loss of {loss:g} and gradients of norm {norm:g}"
                )
        return [loss for loss, _ in figures]

    def is_due(self, step: int, device: torch.device) -> bool:
        """Return whether something of what follows after a step, counted from 1, depends on its figures or its weights.

        On a CPU, where looking costs nothing, everything is.
        """
        config = self.config
        periods = (config.log_every, config.checkpoint_every, config.validate_every, config.sheet_every)
        return device.type == "cpu" or step == config.max_steps or any(step % period == 0 for period in periods)
