"""The learning rate over the course of a training."""

import math

from .config import LoopConfig


def learning_rate(step: int, config: LoopConfig, share: float = 0.0) -> float:
    """Linear warm-up from zero, then a cosine from `learning_rate` to `final_learning_rate` at `max_steps`.

    Args:
        step: counted from 0.
        config: settings of the loop.
        share: of the time for steps that is over, if time is limited; the cosine is as far as the larger of the two shares.
    """
    progress = max(share, (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
    if step < config.warmup_steps:
        return min(rate, config.learning_rate * (step + 1) / config.warmup_steps)
    return rate
