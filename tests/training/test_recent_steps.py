import pytest
import torch

from difface_diffusers.training.config import LoopConfig
from difface_diffusers.training.recent_steps import RecentSteps


CONFIG = LoopConfig(max_steps=100, warmup_steps=0, log_every=10, checkpoint_every=25, validate_every=12, sheet_every=9)


def steps(*figures, first=4):
    recent = RecentSteps(CONFIG)
    for step, pair in enumerate(figures, first):
        recent.add(step, step / 1000, torch.tensor(pair))
    return recent


def test_losses_are_handed_over_once_and_in_order():
    recent = steps([0.5, 1.0], [0.25, 2.0])
    assert recent.look() == [0.5, 0.25]
    assert recent.look() == []
    recent.add(9, 1e-4, torch.tensor([0.125, 1.0]))
    assert recent.look() == [0.125]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([float("nan"), 1.0], "a loss of nan and gradients of norm 1"),
        ([2.0, float("inf")], "a loss of 2 and gradients of norm inf"),
    ],
)
def test_the_first_step_that_is_not_finite_is_named(bad, message):
    recent = steps([0.5, 1.0], bad, [float("nan")] * 2)
    with pytest.raises(FloatingPointError, match=rf"^step 6, at the learning rate 0\.005, has {message}$"):
        recent.look()


def test_a_cpu_is_looked_at_after_every_step_and_a_gpu_when_something_depends_on_it():
    recent = RecentSteps(CONFIG)
    due = [step for step in range(1, 101) if recent.is_due(step, torch.device("cuda"))]
    multiples = {step for period in (10, 25, 12, 9) for step in range(period, 101, period)}
    assert due == sorted(multiples | {100})
    assert all(recent.is_due(step, torch.device("cpu")) for step in range(1, 101))
