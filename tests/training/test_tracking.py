import builtins
import math

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difface_diffusers.training.loop import train
from difface_diffusers.training.tracking import Record

from .test_loop import logged, prepare, signaled
from .test_monitoring import folder, held_out  # noqa: F401  fixtures
from .tiny import face


def curves(output):
    """Return what TensorBoard shows: the (step, value) pairs of each scalar, and the steps of the sheets."""
    events = EventAccumulator(str(output / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    scalars = {
        tag: [(event.step, round(event.value, 5)) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    return scalars, [event.step for event in events.Images("sheet")] if events.Tags()["images"] else []


def record(output, step=0, tensorboard=False):
    return Record(output, step, tensorboard)


# The log


def test_figures_become_lines(tmp_path):
    log = record(tmp_path)
    log.figures(1, {"loss": 0.5})
    log.figures(2, {"validation.loss": 0.25, "validation.psnr": 20.0})
    assert logged(tmp_path) == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "validation.loss": 0.25, "validation.psnr": 20.0},
    ]


def test_lines_of_steps_that_are_taken_again_are_dropped(tmp_path):
    log = record(tmp_path)
    for step in (1, 2, 3):
        log.figures(step, {"loss": float(step)})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    again = record(tmp_path, step=2)
    assert [entry["step"] for entry in logged(tmp_path)] == [1, 2]
    again.figures(3, {"loss": 0.5})
    assert [entry["loss"] for entry in logged(tmp_path)] == [1, 2, 0.5]


def test_remembers_what_was_logged(tmp_path):
    log = record(tmp_path)
    assert log.lowest("validation.loss") == math.inf and log.last("validation.") == {}
    for step, loss in ((1, 0.3), (2, 0.1), (3, 0.2)):
        log.figures(step, {"validation.loss": loss, "seconds": 1.0})
    log.figures(3, {"loss": 0.0})
    for known in (log, record(tmp_path, step=3)):
        assert known.lowest("validation.loss") == 0.1
        assert known.last("validation.") == {"validation.loss": 0.2}
    assert record(tmp_path, step=1).lowest("validation.loss") == 0.3


# TensorBoard


def test_curves_and_sheets(tmp_path):
    log = record(tmp_path, tensorboard=True)
    log.figures(2, {"loss": 0.5, "validation.psnr": 21.0})
    log.figures(4, {"loss": 0.25})
    log.sheet(4, Image.fromarray(face(0)))
    log.close()
    assert curves(tmp_path) == ({"loss": [(2, 0.5), (4, 0.25)], "validation/psnr": [(2, 21.0)]}, [4])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (tmp_path / "shown.png").write_bytes(events.Images("sheet")[0].encoded_image_string)
    with Image.open(tmp_path / "shown.png") as shown:
        assert np.array_equal(np.asarray(shown), face(0))


def test_nothing_is_written_unless_asked_for(folder, tmp_path):  # noqa: F811
    train(*prepare(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_curves_go_on_where_the_training_does(folder, held_out, tmp_path):  # noqa: F811
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    monitoring = {"validation": str(held_out), "tensorboard": True}

    def prepared():
        return prepare(folder, monitoring=monitoring, validate_every=2, sheet_every=2, checkpoint_every=3)

    train(*prepared(), whole)
    task, dataset, config = prepared()
    train(signaled(task, 4), dataset, config, resumed)
    (resumed / "checkpoint-00000005").rename(resumed / "lost")  # so step 4, with its points and its sheet, comes again
    train(*prepared(), resumed)
    scalars, sheets = curves(resumed)
    expected, expected_sheets = curves(whole)
    assert sheets == expected_sheets == [2, 4, 6]
    assert scalars.pop("seconds") and expected.pop("seconds")
    assert scalars == expected
    assert [step for step, _ in scalars["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in scalars["validation/psnr"]] == [2, 4, 6]
    losses = [(entry["step"], round(entry["loss"], 5)) for entry in logged(whole) if "loss" in entry]
    assert scalars["loss"] == [(step, pytest.approx(loss, abs=1e-5)) for step, loss in losses]


def test_a_missing_package_is_named_with_its_remedy(folder, tmp_path, monkeypatch):  # noqa: F811
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "tensorboard":
            raise ImportError("No module named 'tensorboard'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr("difface_diffusers.utils.extras.import_module", without)
    with pytest.raises(
        ImportError, match=r"`tensorboard`, which cannot .* pip install \"difface-diffusers\[train\]\""
    ):
        train(*prepare(folder, monitoring={"tensorboard": True}), tmp_path / "run")
