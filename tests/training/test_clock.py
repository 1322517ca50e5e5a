"""Budgets of seconds, by a clock that the tests set."""

import json

import pytest

from difface_diffusers.training import EstimatorConfig, build_config, checkpoints, clock, train_estimator
from difface_diffusers.training.clock import SAVE, SHOW, STEP, Clock
from difface_diffusers.training.config import LoopConfig
from difface_diffusers.training.estimator import EstimatorTask
from difface_diffusers.training.loop import TrainingResult, train
from difface_diffusers.training.schedule import learning_rate

from .test_loop import assert_same_checkpoints, folders, logged, prepare, signaled
from .tiny import ESTIMATOR, changed, write_faces


class Time:
    """The time that `monotonic` tells."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def takes(self, seconds, function):
        """Return a function that takes so many seconds."""

        def timed(*arguments, **settings):
            self.now += seconds
            return function(*arguments, **settings)

        return timed


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(clock, "monotonic", time)
    return time


def lap(clock, time, what, seconds):
    time.now += seconds
    clock.lap(what)


# The clock


def test_without_a_budget_time_does_not_matter(time):
    clock = Clock(None)
    clock.begin(0.0)
    lap(clock, time, STEP, 1e9)
    assert clock.share == 0
    assert not clock.is_over([STEP, SHOW, SAVE])


def test_what_is_coming_and_the_ending_must_fit_in(time):
    clock = Clock(1000)
    time.now += 100  # for the start
    clock.begin(0.0)
    lap(clock, time, STEP, 70)
    lap(clock, time, SHOW, 40)
    lap(clock, time, SAVE, 20)
    lap(clock, time, STEP, 10)
    lap(clock, time, SHOW, 1)
    ending = 1.25 * (2 * 20 + 40)
    for coming, seconds in (([STEP], 10), ([STEP, SHOW], 50), ([STEP, SHOW, SAVE], 70)):
        time.now = 1000 + 1000 - ending - 1.25 * seconds
        assert not clock.is_over(coming)
        time.now += 0.01
        assert clock.is_over(coming)


def test_the_first_step_counts_until_there_is_a_second(time):
    clock = Clock(1000)
    lap(clock, time, STEP, 70)
    assert clock.longest[STEP] == 70
    for seconds in (3, 5, 4):
        lap(clock, time, STEP, seconds)
    assert clock.longest[STEP] == 5


def test_the_share_runs_from_the_first_step_to_the_ending(time):
    clock = Clock(1000)
    time.now += 100
    clock.begin(0.0)
    assert clock.share == 0
    lap(clock, time, SAVE, 40)
    assert clock.share == pytest.approx(40 / (1000 - 100 - 100))
    time.now = 1000 + 900
    assert clock.share == 1
    time.now += 500
    assert clock.share == 1


@pytest.mark.parametrize(("before", "expected"), [(0.6, 0.8), (0.0, 0.5), (1.0, 0.5)])
def test_the_share_goes_on_where_it_was_interrupted(time, before, expected):
    clock = Clock(100)
    clock.begin(before)
    time.now += 50
    assert clock.share == pytest.approx(expected)


def test_a_start_that_takes_all_the_time(time):
    clock = Clock(100)
    time.now += 100
    clock.begin(0.0)
    assert clock.share == 1
    assert clock.is_over([STEP]) is False  # nothing is known to take any time
    time.now += 1
    assert clock.is_over([STEP])


# The learning rate


def test_the_learning_rate_runs_down_by_the_share_that_is_larger():
    config = LoopConfig(max_steps=110, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-4)
    assert learning_rate(35, config, 0.1) == learning_rate(35, config)
    assert learning_rate(35, config, 0.5) == learning_rate(60, config) == pytest.approx(5.5e-4)
    assert learning_rate(35, config, 1.0) == pytest.approx(1e-4)
    assert learning_rate(4, config, 0.1) == learning_rate(4, config) == pytest.approx(5e-4)
    assert learning_rate(8, config, 0.75) == pytest.approx(learning_rate(85, config))


# In a training


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


@pytest.fixture
def timed(folder, time, monkeypatch):
    """Prepare trainings in which a step takes 10 seconds, a checkpoint 12, of which 4 a file."""
    monkeypatch.setattr(checkpoints, "save_file", time.takes(4, checkpoints.save_file))

    def prepared(**settings):
        monitoring = settings.pop("monitoring", {})
        settings = {"max_steps": 1000, "checkpoint_every": 500, "ema_decay": 0.5} | settings
        task, dataset, config = prepare(folder, monitoring=monitoring, **settings)
        task.loss = time.takes(10, task.loss)
        task.model.save_pretrained = time.takes(3, task.model.save_pretrained)
        return task, dataset, config

    return prepared


def state(output, step):
    return json.loads((output / f"checkpoint-{step:08d}" / "state.json").read_text())


def test_a_training_ends_within_its_budget_with_everything_saved(timed, tmp_path, time):
    started = time.now
    result = train(*timed(max_seconds=300), tmp_path)
    assert result == TrainingResult(result.step, True, out_of_time=True)
    assert {"estimator", f"checkpoint-{result.step:08d}"} < set(folders(tmp_path))
    # the first checkpoint, the steps, 1.25 times the next step and two checkpoints: 12 + 10 n + 12.5 + 30 <= 300
    assert result.step == 25
    assert time.now - started == 12 + 250 + 12 + 3
    assert state(tmp_path, 25)["share"] == 1


def test_the_first_step_is_followed_by_all_that_comes_now_and_then(timed, tmp_path):
    held_out = write_faces(tmp_path / "held_out", ["v.png"], seed=50)
    train(*timed(max_seconds=100, monitoring={"validation": str(held_out)}), tmp_path / "run")
    validated = [entry["step"] for entry in logged(tmp_path / "run") if "validation.loss" in entry]
    last = logged(tmp_path / "run")[-1]["step"]
    assert validated == [1, last] and last > 1
    assert folders(tmp_path / "run" / "sheets") == ["00000001.png"]
    assert "checkpoint-00000001" in folders(tmp_path / "run")


def test_the_learning_rate_is_at_its_end_when_the_time_is_over(timed, tmp_path):
    train(*timed(max_seconds=600, final_learning_rate=1e-5), tmp_path)
    rates = [entry["learning_rate"] for entry in logged(tmp_path)]
    assert rates[0] == 1e-3
    assert rates == sorted(rates, reverse=True)
    assert 1e-5 <= rates[-1] < 3e-5
    middle = rates[len(rates) // 2]
    assert middle == pytest.approx(5e-4, rel=0.15)


def test_steps_may_end_before_the_time(timed, tmp_path):
    task, dataset, config = timed(max_seconds=1e6, max_steps=4)
    assert train(task, dataset, config, tmp_path) == TrainingResult(4, True)
    rates = [entry["learning_rate"] for entry in logged(tmp_path)]
    assert rates == pytest.approx([learning_rate(step, config) for step in range(4)], rel=1e-6)


def test_a_budget_for_less_than_a_step(timed, tmp_path):
    result = train(*timed(max_seconds=5), tmp_path)
    assert result == TrainingResult(1, True, out_of_time=True)
    assert "estimator" in folders(tmp_path)


def test_the_call_of_the_training_begins_the_budget(folder, time, tmp_path, monkeypatch):
    """What is read and built before the first step counts."""
    monkeypatch.setattr(EstimatorTask, "__init__", time.takes(500, EstimatorTask.__init__))
    config = build_config(EstimatorConfig, changed(ESTIMATOR, loop={"max_seconds": 400}))
    assert train_estimator(config, folder, tmp_path / "run") == TrainingResult(0, True, out_of_time=True)
    assert "estimator" in folders(tmp_path / "run")


def test_the_same_command_goes_on_with_as_much_time_again(timed, tmp_path, capsys):
    first = train(*timed(max_seconds=300), tmp_path)
    assert "going on" not in capsys.readouterr().out
    second = train(*timed(max_seconds=300), tmp_path)
    assert "going on from step 25 with 300 seconds" in capsys.readouterr().out
    assert second == TrainingResult(2 * first.step, True, out_of_time=True)
    rates = [entry["learning_rate"] for entry in logged(tmp_path)]
    assert rates[24] < 3e-5 and rates[25] > 9e-4 and rates[-1] < 3e-5
    assert [entry["step"] for entry in logged(tmp_path)] == list(range(1, 51))


def test_a_budget_that_was_interrupted_goes_on_running_down(timed, tmp_path):
    task, dataset, config = timed(max_seconds=300)
    assert train(signaled(task, 12), dataset, config, tmp_path) == TrainingResult(13, False)
    assert state(tmp_path, 13)["share"] == pytest.approx((12 + 130) / (300 - 30))
    result = train(*timed(max_seconds=300), tmp_path)
    assert result == TrainingResult(13 + 25, True, out_of_time=True)
    rates = [entry["learning_rate"] for entry in logged(tmp_path)]
    assert rates[13] < rates[12] and rates == sorted(rates, reverse=True)


def test_budgets_take_the_steps_of_a_training_without_one(timed, tmp_path):
    """With one learning rate throughout, a training cut into budgets ends with the same weights, bit by bit."""
    settings = {"max_steps": 12, "final_learning_rate": 1e-3, "warmup_steps": 0}
    train(*timed(**settings), tmp_path / "whole")
    steps = [train(*timed(**settings, max_seconds=100), tmp_path / "cut").step for _ in range(3)]
    assert 0 < steps[0] < steps[1] < 12 == steps[2]
    for file in ("model", "ema", "optimizer"):
        name = f"checkpoint-00000012/{file}.safetensors"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_without_the_budget_a_cut_training_ends_as_if_it_had_had_none(timed, tmp_path):
    settings = {"max_steps": 12, "final_learning_rate": 1e-3, "warmup_steps": 0}
    train(*timed(**settings), tmp_path / "whole")
    assert train(*timed(**settings, max_seconds=100), tmp_path / "cut").out_of_time
    assert train(*timed(**settings), tmp_path / "cut") == TrainingResult(12, True)
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "cut", 12)


def test_a_budget_does_not_belong_to_the_result(timed, tmp_path):
    train(*timed(max_steps=2), tmp_path)
    assert train(*timed(max_steps=2, max_seconds=50), tmp_path) == TrainingResult(2, True)
