import dataclasses
import json
import os
import shutil
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file

from difface_diffusers import SRCNNEstimator
from difface_diffusers.training import EstimatorConfig, PriorConfig, build_config, checkpoints, load_config
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.estimator import EstimatorTask
from difface_diffusers.training.failures import TrainingError
from difface_diffusers.training.loop import TrainingResult, averaged_weights, train
from difface_diffusers.training.prior import PriorTask
from difface_diffusers.training.recent_steps import RecentSteps
from difface_diffusers.training.schedule import learning_rate
from tests.conftest import warned_at

from .tiny import ESTIMATOR, PRIOR, SRCNN, SWINIR, changed, write_faces


TRAININGS = {
    "prior": (PriorConfig, PriorTask, changed(PRIOR, model={"out_channels": 6, "dropout": 0.2})),
    "srcnn": (EstimatorConfig, EstimatorTask, ESTIMATOR),
    "swinir": (
        EstimatorConfig,
        EstimatorTask,
        ESTIMATOR | {"architecture": "swinir", "model": SWINIR | {"drop_path_rate": 0.5}},
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


@pytest.fixture
def fresh_accelerate():
    """Let accelerate look at the settings anew, which it otherwise does once in a process."""

    def reset():
        AcceleratorState._reset_state(reset_partial_state=True)

    reset()
    yield reset
    reset()


def prepare(folder, training="srcnn", monitoring=None, **loop_settings):
    """Return a fresh task, its data set and its loop's config."""
    config_class, task_class, values = TRAININGS[training]
    config = build_config(config_class, changed(values, loop=loop_settings, monitoring=monitoring or {}))
    torch.manual_seed(config.loop.seed)
    task = task_class(config)
    return task, FaceDataset(folder, config.data, config.loop.seed, getattr(config, "degradation", None)), config.loop


def signaled(task, step, number=signal.SIGINT):
    """Let the loss of a step, counted from 0, be interrupted by a signal to this process."""
    calls, loss = [], task.loss

    def interrupted(model, batch):
        if len(calls) == step:
            os.kill(os.getpid(), number)
        calls.append(step)
        return loss(model, batch)

    task.loss = interrupted
    return task


def folders(output):
    return sorted(path.name for path in output.iterdir())


def logged(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def assert_same_tensors(first, second):
    first, second = load_file(first), load_file(second)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].equal(second[name]), name


def assert_same_checkpoints(first, second, step):
    name = f"checkpoint-{step:08d}"
    for file in ("model", "ema", "optimizer"):
        assert_same_tensors(first / name / f"{file}.safetensors", second / name / f"{file}.safetensors")
    assert (first / name / "state.json").read_text() == (second / name / "state.json").read_text()


# Learning rate


def test_every_step_has_its_learning_rate(folder, tmp_path, monkeypatch):
    rates, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *args: rates.append(self.param_groups[0]["lr"]) or step(self, *args)
    )
    task, dataset, config = prepare(folder)
    train(task, dataset, config, tmp_path / "run")
    assert rates == [learning_rate(step, config) for step in range(6)]


# Averaged weights


def test_averaged_weights_come_and_go():
    model = SRCNNEstimator(**SRCNN).train()
    ema = EMAModel(model.parameters())
    averaged = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    trained = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(RuntimeError, match="inside"), averaged_weights(model, ema):
        assert not model.training
        assert all(map(torch.equal, model.parameters(), averaged))
        raise RuntimeError("inside")
    assert model.training
    assert all(map(torch.equal, model.parameters(), trained))


def test_the_average_of_the_weights_is_what_is_saved(folder, tmp_path):
    task, dataset, config = prepare(folder, ema_decay=0.3)
    weights, loss = [], task.loss

    def recorded(model, batch):
        weights.append(model.tail[-1].weight.detach().clone())
        return loss(model, batch)

    task.loss = recorded
    train(task, dataset, config, tmp_path)
    weights.append(task.model.tail[-1].weight.detach())

    average = weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        decay = 0 if step == 1 else min(0.3, step / (step + 9))
        average = decay * average + (1 - decay) * weight
    saved = SRCNNEstimator.from_pretrained(tmp_path / "estimator").tail[-1].weight
    torch.testing.assert_close(saved, average, rtol=0, atol=1e-7)
    assert (saved - weights[-1]).abs().max() > 1e-5
    name = next(name for name, parameter in task.model.named_parameters() if parameter is task.model.tail[-1].weight)
    assert load_file(tmp_path / "checkpoint-00000006" / "ema.safetensors")[name].equal(saved)


# Checkpoints


def test_an_output_of_another_training_is_refused(folder, tmp_path):
    task, dataset, config = prepare(folder, max_steps=1)
    train(task, dataset, config, tmp_path)
    task, dataset, config = prepare(folder, "swinir")
    with pytest.raises(ValueError, match="checkpoint-00000001 of another model"):
        train(task, dataset, config, tmp_path)


# Resuming


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize(
    ("num_workers", "gradient_accumulation_steps", "optimizer"), [(0, 1, "adamw"), (1, 2, "adamw"), (0, 1, "muon")]
)
def test_an_interrupted_training_ends_like_a_whole_one(
    folder, tmp_path, training, num_workers, gradient_accumulation_steps, optimizer
):
    settings = {
        "num_workers": num_workers,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "optimizer": optimizer,
    }
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    task, dataset, config = prepare(folder, training, **settings)
    assert train(task, dataset, config, whole) == TrainingResult(6, True)

    task, dataset, config = prepare(folder, training, **settings)
    signaled(task, 2 * gradient_accumulation_steps)
    assert train(task, dataset, config, resumed) == TrainingResult(3, False)
    assert not (resumed / task.name).exists()
    task, dataset, config = prepare(folder, training, **settings)
    torch.rand(5)  # what was drawn in between must not matter
    assert train(task, dataset, config, resumed) == TrainingResult(6, True)

    assert_same_checkpoints(whole, resumed, 6)
    weights = f"{task.name}/diffusion_pytorch_model.safetensors"
    assert_same_tensors(whole / weights, resumed / weights)
    assert [(entry["step"], entry["loss"]) for entry in logged(whole)] == [
        (entry["step"], entry["loss"]) for entry in logged(resumed)
    ]


def test_other_seeds_end_elsewhere(folder, tmp_path):
    for seed in (0, 1):
        train(*prepare(folder, seed=seed, max_steps=2), tmp_path / str(seed))
    assert logged(tmp_path / "0")[0]["loss"] != logged(tmp_path / "1")[0]["loss"]


def test_steps_differ_in_their_noise(folder, tmp_path):
    task, dataset, config = prepare(folder, "prior", max_steps=4)
    seen = []
    task.loss = lambda model, batch: seen.append(torch.rand(1).item()) or model.conv_in.weight.sum()
    train(task, dataset, config, tmp_path)
    assert len(set(seen)) == 4


def test_a_killed_training_repeats_its_steps_without_repeating_its_log(folder, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for output in (whole, resumed):
        train(*prepare(folder, checkpoint_every=3), output)
    shutil.rmtree(resumed / "checkpoint-00000006")
    with (resumed / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    train(*prepare(folder, checkpoint_every=3), resumed)
    assert_same_checkpoints(whole, resumed, 6)
    assert [entry["step"] for entry in logged(resumed)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_training_stays_finished(folder, tmp_path):
    train(*prepare(folder), tmp_path)
    before = load_file(tmp_path / "estimator" / "diffusion_pytorch_model.safetensors")
    assert train(*prepare(folder), tmp_path) == TrainingResult(6, True)
    after = load_file(tmp_path / "estimator" / "diffusion_pytorch_model.safetensors")
    assert all(before[name].equal(after[name]) for name in before)


def test_fewer_steps_than_were_taken_finish_at_once(folder, tmp_path):
    train(*prepare(folder), tmp_path)
    shutil.rmtree(tmp_path / "estimator")
    assert train(*prepare(folder, max_steps=4), tmp_path) == TrainingResult(6, True)
    assert (tmp_path / "estimator").is_dir()


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(folder, tmp_path, number):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    task, dataset, config = prepare(folder)
    assert train(signaled(task, 0, number), dataset, config, tmp_path) == TrainingResult(1, False)
    assert (tmp_path / "checkpoint-00000001").is_dir()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_does_not_disturb_the_last_checkpoint(folder, tmp_path, monkeypatch):
    write = checkpoints.save_file

    def signaled_again(tensors, path):
        os.kill(os.getpid(), signal.SIGINT)
        write(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", signaled_again)
    task, dataset, config = prepare(folder)
    try:
        result = train(signaled(task, 1), dataset, config, tmp_path)
    except KeyboardInterrupt:
        pytest.fail("the second signal came through")
    assert result == TrainingResult(2, False)
    assert (tmp_path / "checkpoint-00000002").is_dir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_outlive_a_signal_to_the_whole_group(folder, tmp_path, number):
    task, dataset, config = prepare(folder, num_workers=1, gradient_accumulation_steps=6)
    loss = task.loss

    def interrupted(model, batch):
        for child in torch.multiprocessing.active_children():
            os.kill(child.pid, number)
        return loss(model, batch)

    task.loss = interrupted
    assert train(task, dataset, config, tmp_path).finished


def test_a_failing_step_gives_the_signals_back(folder, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    task, dataset, config = prepare(folder)

    def failing(model, batch):
        raise RuntimeError("no loss")

    task.loss = failing
    with pytest.raises(RuntimeError, match="no loss"):
        train(task, dataset, config, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


# Gradients


def first_moments(output):
    moments = load_file(output / "checkpoint-00000001" / "optimizer.safetensors")
    return {name: value for name, value in moments.items() if name.endswith("exp_avg")}


def test_accumulated_batches_have_the_gradient_of_one_big_batch(folder, tmp_path):
    big = {"max_steps": 1, "batch_size": 4, "max_grad_norm": 1e9}
    train(*prepare(folder, **big), tmp_path / "big")
    train(*prepare(folder, **big | {"batch_size": 2, "gradient_accumulation_steps": 2}), tmp_path / "small")
    expected, moments = first_moments(tmp_path / "big"), first_moments(tmp_path / "small")
    assert max(value.abs().max() for value in expected.values()) > 1e-3
    torch.testing.assert_close(moments, expected, rtol=1e-4, atol=1e-8)
    assert logged(tmp_path / "big")[0]["loss"] == pytest.approx(logged(tmp_path / "small")[0]["loss"], abs=2e-6)


def test_gradients_are_clipped(folder, tmp_path):
    train(*prepare(folder, max_steps=1, max_grad_norm=0.01), tmp_path)
    gradients = [10 * value for value in first_moments(tmp_path).values()]  # exp_avg starts at a tenth
    assert torch.cat([gradient.flatten() for gradient in gradients]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_without_a_limit_gradients_stay_as_they_are(folder, tmp_path):
    train(*prepare(folder, max_steps=1, max_grad_norm=1e9), tmp_path / "high")
    train(*prepare(folder, max_steps=1, max_grad_norm=None), tmp_path / "none")
    assert_same_checkpoints(tmp_path / "high", tmp_path / "none", 1)


def test_training_lowers_the_loss(folder, tmp_path):
    train(*prepare(folder, max_steps=40, batch_size=4, learning_rate=3e-3), tmp_path)
    losses = [entry["loss"] for entry in logged(tmp_path)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("training", ["prior", "srcnn"])
def test_mixed_precision(folder, tmp_path, training, fresh_accelerate):
    task, dataset, config = prepare(folder, training, mixed_precision="bf16", max_steps=2)
    assert train(task, dataset, config, tmp_path / "half").finished
    fresh_accelerate()
    weights = load_file(tmp_path / "half" / task.name / "diffusion_pytorch_model.safetensors")
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    train(*prepare(folder, training, max_steps=2), tmp_path / "full")
    half, full = (logged(tmp_path / name)[0]["loss"] for name in ("half", "full"))
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


# Devices


@pytest.mark.parametrize("training", TRAININGS)
def test_faces_on_the_device_resume_exactly(folder, tmp_path, training):
    def on_device(**settings):
        task, dataset, config = prepare(folder, training, checkpoint_every=2, **settings)
        dataset.config = dataclasses.replace(dataset.config, on_device=True)
        return task, dataset, config

    train(*on_device(), tmp_path / "whole")
    task, dataset, config = on_device()
    assert not train(signaled(task, 2), dataset, config, tmp_path / "parts").finished
    assert train(*on_device(), tmp_path / "parts").finished
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "parts", 6)


def test_faces_on_the_device_train_as_those_on_the_cpu(folder, tmp_path):
    """Without flips and degradation there is nothing that would be drawn otherwise."""
    for on_device in (False, True):
        task, dataset, config = prepare(folder, "prior")
        dataset.config = dataclasses.replace(dataset.config, on_device=on_device, horizontal_flip=False)
        train(task, dataset, config, tmp_path / str(on_device))
    assert_same_checkpoints(tmp_path / "False", tmp_path / "True", 6)


@pytest.mark.parametrize(
    "training", [pytest.param(name, marks=[pytest.mark.slow] * (name != "srcnn")) for name in TRAININGS]
)
def test_a_compiled_network_is_trained_alike(folder, tmp_path, monkeypatch, training):
    """The graph is what matters here, not the code that is made of it, which would take a minute."""
    compiled, compile_graph = [], torch.compile

    def without_code(network, **settings):
        compiled.append(network)
        return compile_graph(network, backend="aot_eager", dynamic=settings["dynamic"], fullgraph=True)

    monkeypatch.setattr(torch, "compile", without_code)
    for compiles in (False, True):
        task, dataset, config = prepare(folder, training, compile=compiles, sheet_every=2, checkpoint_every=3)
        assert train(task, dataset, config, tmp_path / str(compiles)).finished
    assert len(compiled) == 1
    plain, fast = (logged(tmp_path / str(compiles)) for compiles in (False, True))
    assert [entry["loss"] for entry in fast] == pytest.approx([entry["loss"] for entry in plain], rel=1e-3)
    for name in ("model", "ema"):
        first, second = (
            load_file(tmp_path / str(compiles) / "checkpoint-00000006" / f"{name}.safetensors")
            for compiles in (False, True)
        )
        torch.testing.assert_close(second, first, rtol=0, atol=2e-3)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Look at the figures of the steps only when something depends on them."""
    is_due = RecentSteps.is_due
    monkeypatch.setattr(RecentSteps, "is_due", lambda self, step, device: is_due(self, step, torch.device("cuda")))


def test_seldom_looking_does_not_change_the_training(folder, tmp_path, as_on_a_gpu, monkeypatch):
    settings = {"max_steps": 7, "log_every": 3}
    train(*prepare(folder, **settings), tmp_path / "seldom")
    monkeypatch.undo()
    train(*prepare(folder, **settings), tmp_path / "always")
    assert_same_checkpoints(tmp_path / "seldom", tmp_path / "always", 7)
    losses = [[(entry["step"], entry["loss"]) for entry in logged(tmp_path / name)] for name in ("seldom", "always")]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == [3, 6]


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_what_is_not_finite_is_not_saved_though_it_is_seen_late(folder, tmp_path, as_on_a_gpu, number):
    task, dataset, config = prepare(folder, log_every=50, checkpoint_every=4)
    calls, loss, weights = [], task.loss, {}

    def bad(model, batch):
        calls.append(None)
        if len(calls) == 6 and number is not None:
            os.kill(os.getpid(), number)
        weights[len(calls)] = [weight.detach().clone() for weight in task.model.parameters()]
        return loss(model, batch) * (float("nan") if len(calls) == 5 else 1)

    task.loss = bad
    with pytest.raises(TrainingError, match=r"^step 5, at .* has a loss of nan .* goes on from checkpoint-00000004"):
        train(task, dataset, config, tmp_path)
    assert all(weight.equal(other) for weight, other in zip(weights[5], weights[6], strict=True))
    assert [name for name in folders(tmp_path) if name.startswith("checkpoint")] == ["checkpoint-00000004"]


# What is written


def test_files_of_a_training(folder, tmp_path):
    task, dataset, config = prepare(folder, log_every=2, sheet_every=3, checkpoint_every=2)
    output = tmp_path / "deep" / "run"
    train(task, dataset, config, output)
    assert folders(output) == [
        "checkpoint-00000004", "checkpoint-00000006", "config.yaml", "estimator", "log.jsonl", "run.json", "sheets"
    ]  # fmt: skip
    assert folders(output / "sheets") == ["00000003.png", "00000006.png"]
    with Image.open(output / "sheets" / "00000003.png") as picture:
        assert picture.width > 3 * 16
        assert picture.height > 8 * 16
    assert [entry["step"] for entry in logged(output)] == [2, 4, 6]
    assert all(set(entry) == {"step", "loss", "learning_rate", "seconds"} for entry in logged(output))
    assert load_config(EstimatorConfig, output / "config.yaml") == task.config


def test_sheets_do_not_change_the_training(folder, tmp_path):
    train(*prepare(folder, "prior"), tmp_path / "without")
    train(*prepare(folder, "prior", sheet_every=2), tmp_path / "with")
    assert_same_checkpoints(tmp_path / "without", tmp_path / "with", 6)


@pytest.mark.parametrize("training", ["prior", "swinir"])
def test_gradient_checkpointing_does_not_change_the_training(folder, tmp_path, training):
    train(*prepare(folder, training, max_steps=2), tmp_path / "without")
    train(*prepare(folder, training, max_steps=2, gradient_checkpointing=True), tmp_path / "with")
    assert_same_checkpoints(tmp_path / "without", tmp_path / "with", 2)


def test_what_is_drawn_depends_on_the_place_in_the_stream_alone(folder, tmp_path):
    seeds = {}
    for steps, accumulated in ((2, 2), (4, 1)):
        task, dataset, config = prepare(folder, "prior", max_steps=steps, gradient_accumulation_steps=accumulated)
        loss, drawn = task.loss, seeds.setdefault(accumulated, [])
        task.loss = lambda model, batch, loss=loss, drawn=drawn: (
            drawn.append(torch.initial_seed()) or loss(model, batch)
        )
        train(task, dataset, config, tmp_path / str(accumulated))
    assert seeds[1] == seeds[2]
    assert len(set(seeds[1])) == 4


def test_the_log_has_the_mean_loss_since_the_line_before(folder, tmp_path):
    train(*prepare(folder), tmp_path / "each")
    train(*prepare(folder, log_every=3), tmp_path / "third")
    losses = [entry["loss"] for entry in logged(tmp_path / "each")]
    means = [sum(losses[:3]) / 3, sum(losses[3:]) / 3]
    assert [entry["loss"] for entry in logged(tmp_path / "third")] == pytest.approx(means, abs=2e-6)


# Launching


def test_a_launched_process_joins_its_group_on_a_cpu_too(folder, tmp_path, monkeypatch, fresh_accelerate):
    launched = {
        "LOCAL_RANK": 0,
        "RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_WORLD_SIZE": 1,
        "MASTER_PORT": 0,
        "OMP_NUM_THREADS": 1,
    }
    for name, value in (launched | {"MASTER_ADDR": "127.0.0.1"}).items():
        monkeypatch.setenv(name, str(value))
    task, dataset, config = prepare(folder, gradient_accumulation_steps=2)
    models, loss = [], task.loss

    def watched(model, batch):
        models.append(type(model).__name__)
        assert torch.distributed.is_initialized()
        return loss(model, batch)

    task.loss = watched
    train(task, dataset, config, tmp_path / "launched")
    assert set(models) == {"DistributedDataParallel"}
    assert not torch.distributed.is_initialized()

    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.delenv("MASTER_ADDR")
    fresh_accelerate()
    train(*prepare(folder, gradient_accumulation_steps=2), tmp_path / "alone")
    assert_same_checkpoints(tmp_path / "launched", tmp_path / "alone", 6)


def test_a_launcher_that_started_one_process_of_several_is_pointed_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with warned_at(__file__, "only with `--multi_gpu`"):
        train(*prepare(folder, max_steps=1), tmp_path)
