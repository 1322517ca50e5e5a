import math

import pytest

from difface_diffusers.training.config import LoopConfig
from difface_diffusers.training.schedule import learning_rate


def test_learning_rate_rises_and_falls():
    config = LoopConfig(max_steps=110, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-4)
    assert learning_rate(0, config) == pytest.approx(1e-4)
    assert learning_rate(4, config) == pytest.approx(5e-4)
    assert learning_rate(9, config) == learning_rate(10, config) == pytest.approx(1e-3)
    assert learning_rate(35, config) == pytest.approx(1e-4 + 9e-4 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(60, config) == pytest.approx(5.5e-4)
    assert learning_rate(110, config) == pytest.approx(1e-4)


def test_learning_rate_without_warmup_starts_in_full():
    assert learning_rate(0, LoopConfig(warmup_steps=0, learning_rate=3.0)) == 3.0
