import json
import shutil
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from difface_diffusers.training import EstimatorConfig, PriorConfig, StudentConfig, build_config
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.loop import TrainingResult, train
from difface_diffusers.training.mixture import DataSource
from difface_diffusers.training.resuming import Run, check_output, describe_run, note_run
from tests.conftest import warned_at

from .test_loop import prepare
from .tiny import ESTIMATOR, PRIOR, changed, write_faces


RUN = Run("/data/faces", "0123", processes=2)


@pytest.fixture
def output(tmp_path):
    """The folder of a training that has written a checkpoint."""
    note_run(tmp_path / "run", build_config(EstimatorConfig, ESTIMATOR), RUN)
    (tmp_path / "run" / "checkpoint-00000003").mkdir()
    return tmp_path / "run"


def check(output, run=RUN, config=None, config_class=EstimatorConfig, name="estimator"):
    values = ESTIMATOR if config is None else config
    check_output(output, SimpleNamespace(name=name, config=build_config(config_class, values)), run)


def test_the_same_training_goes_on(output):
    check(output)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loop": {"learning_rate": 2e-3}}, "training: `loop.learning_rate` was 0.001 and is 0.002;"),
        (
            {"loop": {"seed": 1, "batch_size": 3}},
            "training: `loop.batch_size` was 2 and is 3, `loop.seed` was 0 and is 1;",
        ),
        ({"loop": {"max_grad_norm": None}}, "training: `loop.max_grad_norm` was 1.0 and is None;"),
        ({"loop": {"mixed_precision": "bf16"}}, "training: `loop.mixed_precision` was 'no' and is 'bf16';"),
        ({"loop": {"ema_decay": 0.5}}, "training: `loop.ema_decay` was 0.999 and is 0.5;"),
        ({"data": {"image_size": 32}}, "training: `data.image_size` was 16 and is 32;"),
        ({"data": {"group_pattern": "^a"}}, "training: `data.group_pattern` was None and is '^a';"),
        ({"data": {"augmentation": {"zoom": 0.1}}}, "training: `data.augmentation.zoom` was 0.0 and is 0.1;"),
        (
            {"degradation": {"downscale": [1, 2]}},
            "training: `degradation.downscale` was [0.8, 32.0] and is [1.0, 2.0];",
        ),
        ({"initial_weights": "runs/other"}, "training: `initial_weights` was None and is 'runs/other';"),
        ({"model": {"depth": 3}}, "model: `model.depth` was 2 and is 3;"),
        ({"model": {"kernel": 3}}, "model: `model.kernel` was None and is 3;"),
        ({"architecture": "swinir"}, "model: `architecture` was 'srcnn' and is 'swinir';"),
    ],
)
def test_settings_that_differ_are_named_with_both_values(output, changes, named):
    with pytest.raises(ValueError) as error:
        check(output, config=changed(ESTIMATOR, **changes))
    assert str(error.value) == (
        f"`output` is {output}, which holds checkpoint-00000003 of another {named} name another folder, or go on in this one"
        " by `--go-on` (`go_on`)."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"loop": {"max_steps": 600, "num_workers": 2, "gradient_checkpointing": True}},
        {"loop": {"compile": True}, "data": {"on_device": True}},
        {
            "loop": {
                "log_every": 7,
                "sheet_every": 7,
                "validate_every": 7,
                "checkpoint_every": 7,
                "checkpoints_kept": 7,
            }
        },
        {"monitoring": {"validation": "elsewhere", "tensorboard": True, "push_to_hub": "org/name", "private": True}},
        {"data": {"skip_broken": True}},
    ],
)
def test_what_changes_nothing_but_the_length_may_differ(output, changes):
    check(output, config=changed(ESTIMATOR, **changes))


def test_processes_may_take_over_from_accumulation(output):
    note_run(output, build_config(EstimatorConfig, changed(ESTIMATOR, loop={"gradient_accumulation_steps": 3})), RUN)
    for accumulated, processes in ((6, 1), (2, 3), (1, 6)):
        config = changed(ESTIMATOR, loop={"gradient_accumulation_steps": accumulated})
        check(output, Run("/data/faces", "0123", processes), config)
    with pytest.raises(ValueError, match=r"`loop\.gradient_accumulation_steps x processes` was 6 and is 4;"):
        check(output, config=changed(ESTIMATOR, loop={"gradient_accumulation_steps": 2}))


def test_another_kind_of_training_is_refused(output):
    with pytest.raises(ValueError, match=r"another model: `architecture` was 'srcnn' and is None"):
        check(output, config=PRIOR, config_class=PriorConfig, name="unet")
    with pytest.raises(ValueError, match=r"`teacher` was None and is 'org/teacher'"):
        check(output, config=changed({"teacher": "org/teacher"}), config_class=StudentConfig, name="student")


def test_other_faces_from_elsewhere_are_refused(output):
    with pytest.raises(ValueError, match=r"another training: `data` was '/data/faces' and is '/data/others'; name"):
        check(output, Run("/data/others", "4567", processes=2))


def test_the_same_faces_may_lie_elsewhere(output):
    check(output, Run("/data/moved", "0123", processes=2))


def test_faces_that_came_or_went_are_warned_of(output):
    with warned_at(__file__, "/data/faces does not hold the faces that it held before; another order begins"):
        check(output, Run("/data/faces", "4567", processes=2))


@pytest.mark.parametrize("result", ["estimator", "best"])
def test_a_finished_model_is_not_overwritten_by_another(output, result):
    shutil.rmtree(output / "checkpoint-00000003")
    check(output, config=changed(ESTIMATOR, loop={"seed": 1}))  # there is nothing to lose
    (output / result).mkdir()
    with pytest.raises(ValueError, match=rf"which holds {result} of another training: `loop\.seed` was 0 and is 1"):
        check(output, config=changed(ESTIMATOR, loop={"seed": 1}))


def test_settings_that_an_older_version_did_not_write_had_their_defaults(output):
    text = (output / "config.yaml").read_text()
    (output / "config.yaml").write_text(
        text.replace("  skip_broken: false\n", "").replace("  weight_decay: 0.0\n", "")
    )
    (output / "run.json").unlink()
    check(output)
    with pytest.raises(ValueError, match=r"`loop\.weight_decay` was 0\.0 and is 0\.1"):
        check(output, config=changed(ESTIMATOR, loop={"weight_decay": 0.1}))


def test_a_folder_of_unknown_settings_is_taken_as_it_is(output):
    (output / "config.yaml").unlink()
    check(output, config=changed(ESTIMATOR, loop={"seed": 1}))


@pytest.mark.parametrize(("file", "text"), [("config.yaml", "a: {"), ("run.json", "{"), ("run.json", '{"a": 1}')])
def test_a_record_that_cannot_be_read_is_named(output, file, text):
    (output / file).write_text(text)
    with pytest.raises(ValueError, match=rf"`output` is {output}, whose config\.yaml or run\.json cannot be read: "):
        check(output)


# In a training


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def test_a_run_is_described(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task, dataset, config = prepare("faces")
    train(task, dataset, config, "run")
    noted = json.loads((tmp_path / "run" / "run.json").read_text())
    assert noted["data"] == str(folder) and noted["processes"] == 1
    sources = [DataSource("faces", 2.5), DataSource("org/faces")]
    mixed = SimpleNamespace(trained=SimpleNamespace(sources=sources), digest="0")
    assert describe_run(mixed, 3) == Run(f"{folder},weight=2.5 + org/faces", "0", 3)


def test_another_weight_is_another_training(folder, tmp_path):
    def mixed(weight):
        task, _, config = prepare(folder)
        data = [DataSource(folder, weight), DataSource(folder)]
        return task, FaceDataset(data, DataConfig(image_size=16), 0, task.config.degradation), config

    output = tmp_path / "run"
    train(*mixed(2.0), output)
    assert train(*mixed(2.0), output) == TrainingResult(6, True)
    with pytest.raises(ValueError, match=r"`data` was '\S+,weight=2 \+ \S+' and is '\S+,weight=3 \+ \S+'"):
        train(*mixed(3.0), output)


def test_nothing_changes_in_an_output_that_is_refused(folder, tmp_path):
    output = tmp_path / "run"
    train(*prepare(folder, max_steps=2), output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"`loop\.seed` was 0 and is 1"):
        train(*prepare(folder, seed=1), output)
    with pytest.raises(ValueError, match=r"`data` was"):
        train(*prepare(write_faces(tmp_path / "others", seed=50)), output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    assert train(*prepare(folder, seed=1), output, go_on=True) == TrainingResult(6, True)
    assert train(*prepare(folder, seed=1), output) == TrainingResult(6, True)


@pytest.mark.parametrize(("before", "after"), [("adamw", "muon"), ("muon", "adamw")])
def test_another_optimizer_is_told_and_begins_without_moments(folder, tmp_path, before, after):
    train(*prepare(folder, max_steps=3, optimizer=before), tmp_path)
    with pytest.raises(ValueError, match=f"`loop.optimizer` was '{before}' and is '{after}'"):
        train(*prepare(folder, optimizer=after), tmp_path)
    assert train(*prepare(folder, optimizer=after), tmp_path, go_on=True) == TrainingResult(6, True)
    moments = load_file(tmp_path / "checkpoint-00000006" / "optimizer.safetensors")
    assert {moments[name].item() for name in moments if name.endswith(".step")} == {3}


def test_going_on_does_not_make_another_model_fit(folder, tmp_path):
    train(*prepare(folder, max_steps=2), tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"holds checkpoint-00000002 of another model\.$"):
        train(*prepare(folder, "swinir"), tmp_path, go_on=True)
    assert (tmp_path / "config.yaml").read_bytes() == before
