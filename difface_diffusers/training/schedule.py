"""The learning rate over the course of a training."""

import math

from .config import LoopConfig


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up from zero, then a cosine from `learning_rate` to `final_learning_rate` at `max_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
