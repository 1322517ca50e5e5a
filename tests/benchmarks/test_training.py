import json

import pytest
import torch
from accelerate import Accelerator

from benchmarks import training
from difface_diffusers.training import EstimatorConfig, PriorConfig, build_config
from difface_diffusers.training.estimator import EstimatorTask, InpaintingTask
from difface_diffusers.training.prior import PriorTask
from tests.training.test_estimator import LAMA_CONFIG
from tests.training.tiny import ESTIMATOR, PRIOR, changed, write_faces, write_yaml


CONFIGS = {
    "prior": (PriorConfig, PRIOR, PriorTask),
    "estimator": (EstimatorConfig, ESTIMATOR, EstimatorTask),
    "inpainting": (EstimatorConfig, LAMA_CONFIG, InpaintingTask),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(training, "WARM_UPS", 1)
    monkeypatch.setattr(training, "FACES", 3)
    monkeypatch.setattr(training, "keep_freed_memory", lambda: None)


def config(kind):
    config_class, values, _ = CONFIGS[kind]
    return build_config(config_class, values)


# Parts


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_kind_of_a_config_is_found_out(tmp_path, kind):
    config_class, values, task_class = CONFIGS[kind]
    read = training.read_config(str(write_yaml(tmp_path / "config.yaml", values)))
    assert read == build_config(config_class, values)
    assert type(training.make_task(read)) is task_class


def test_shipped_configs_have_their_names():
    assert isinstance(training.read_config("mini_estimator"), EstimatorConfig)
    assert isinstance(training.read_config("mini_prior"), PriorConfig)


def test_what_is_no_config_is_refused(tmp_path):
    path = write_yaml(tmp_path / "config.yaml", {"architecture": "swinir", "teacher": "x"})
    with pytest.raises(
        ValueError, match=r"no config of a training; as a prior's: .*`architecture`.*; as a student's: "
    ):
        training.read_config(str(path))


def test_a_variant_changes_nothing_but_how_the_training_is_done():
    values = changed(PRIOR, initial_weights="runs/other", loop={"gradient_accumulation_steps": 3, "seed": 4})
    original = build_config(PriorConfig, values)
    adapted = training.adapt(original, training.Variant(True, False), "bf16", batch_size=7, workers=2)
    assert adapted.initial_weights is None and adapted.model == original.model
    assert (adapted.data.on_device, adapted.data.image_size) == (True, 16)
    loop = adapted.loop
    assert (loop.compile, loop.mixed_precision, loop.batch_size, loop.num_workers) == (False, "bf16", 7, 2)
    assert (loop.gradient_accumulation_steps, loop.seed) == (1, 4)


def test_faces_are_made_up_larger_than_they_are_trained_on(tmp_path):
    training.make_faces(tmp_path, 16)
    images = [training.Image.open(path) for path in sorted(tmp_path.iterdir())]
    assert [image.size for image in images] == [(32, 32)] * 3
    assert images[0].tobytes() != images[1].tobytes()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("on_device", [False, True])
def test_both_kinds_of_steps_train(tmp_path, kind, on_device):
    adapted = training.adapt(config(kind), training.Variant(on_device, False), "no", batch_size=2, workers=0)
    trainer = training.Trainer(adapted, write_faces(tmp_path), Accelerator())
    before = [weight.detach().clone() for weight in trainer.task.model.parameters()]
    trainer.step(0)
    middle = [weight.detach().clone() for weight in trainer.task.model.parameters()]
    parts = trainer.parts()
    assert len(parts) == len(training.PARTS) == 4 and min(parts) > 0
    for old, new, weight in zip(before, middle, trainer.task.model.parameters(), strict=True):
        assert not old.equal(new) and not new.equal(weight)
    assert trainer.ema.optimization_step == 2


# Report


def test_each_variant_is_measured(tmp_path):
    figures = training.report(
        config("estimator"), "name", write_faces(tmp_path), ["on the device"], workers=0, steps=2
    )
    assert list(figures.rows) == ["one by one", "on the device"]
    for row in figures.rows.values():
        assert row.images_per_second > 0 and row.first_step > 0 and row.memory is None
        assert list(row.parts) == ["data", "forward", "backward", "optimizer"]
    assert (figures.batch_size, figures.size, figures.precision, figures.steps) == (2, 16, "no", 2)


def test_markdown_compares_with_the_first_and_shows_shares():
    parts = {"data": 0.1, "forward": 0.2, "backward": 0.6, "optimizer": 0.1}
    rows = {
        "one by one": training.TrainingRow(50.0, 1.25, parts, None),
        "fast": training.TrainingRow(200.0, 33.3, {**parts, "data": 0.02}, 12_340_000_000),
    }
    figures = training.TrainingReport("c", None, "a GPU", "bf16", 64, 256, 12_300_000, 4, 16, 20, rows)
    table, _, note = figures.markdown().partition("\n\n")
    assert table.splitlines()[2:] == [
        "| one by one | 50.0 | 1.00 | 10% | 20% | 60% | 10% | 1.2 |  |",
        "| fast | 200.0 | 4.00 | 2% | 22% | 65% | 11% | 33.3 | 12.3 |",
    ]
    assert note.startswith(
        "c, 12.3 M parameters, 64 faces that were made up a step, 256 x 256 pixels, precision bf16; a GPU"
    )


# The command


def test_main_writes_table_and_json(tmp_path, capsys):
    path, output = write_yaml(tmp_path / "config.yaml", ESTIMATOR), tmp_path / "deep" / "out"
    arguments = ["--config", path, "--output", output, "--batch-size", 1, "--steps", 1, "--image-size", 8]
    assert training.main([str(argument) for argument in arguments]) == 0
    table = (output / "training.md").read_text()
    assert table in capsys.readouterr().out and "1 faces that were made up a step, 8 x 8 pixels" in table
    figures = json.loads((output / "training.json").read_text())
    assert list(figures["rows"]) == ["one by one", "on the device"]
    assert figures["parameters"] == sum(
        weight.numel() for weight in EstimatorTask(config("estimator")).model.parameters()
    )


def test_faces_that_are_to_be_worn_are_not_kept_on_the_device(tmp_path, capsys):
    values = changed(ESTIMATOR, degradation={"wear_probability": 0.5})
    path, output = write_yaml(tmp_path / "config.yaml", values), tmp_path / "out"
    arguments = ["--config", path, "--output", output, "--batch-size", 1, "--steps", 1, "--image-size", 8]
    assert training.main([str(argument) for argument in arguments]) == 0
    assert list(json.loads((output / "training.json").read_text())["rows"]) == ["one by one"]
    with pytest.raises(SystemExit):
        training.main([str(argument) for argument in [*arguments, "--variants", "on the device"]])
    assert "`degradation.wear_probability` 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--batch-size", "-1"], "--batch-size must be at least 1, got -1"),
        (["--config", "no_such"], "no_such"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_refuses_what_cannot_be(capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        training.main(["--output", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_refuses_a_gpu_that_is_not_there(capsys, tmp_path):
    with pytest.raises(SystemExit):
        training.main(["--output", str(tmp_path), "--device", "cuda"])
    assert "--device is cuda, but torch finds no such GPU" in capsys.readouterr().err
