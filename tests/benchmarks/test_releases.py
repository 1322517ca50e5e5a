import json
import shutil
from pathlib import Path

import pytest
import torch

import difface_diffusers
from benchmarks import releases
from difface_diffusers.training import PriorConfig, build_config
from tests.training.tiny import PRIOR, changed, write_faces, write_yaml


HERE = Path(difface_diffusers.__file__).parents[1]


def test_a_run_shows_nothing_but_two_lines():
    values = changed(PRIOR, initial_weights="runs/other", loop={"gradient_accumulation_steps": 3, "seed": 4})
    adapted = releases.adapt(values, "bf16", batch_size=7, workers=2, steps=5)
    config = build_config(PriorConfig, adapted)
    assert config.initial_weights is None and adapted["model"] == values["model"]
    loop = config.loop
    assert (loop.max_steps, loop.log_every, loop.batch_size, loop.num_workers) == (10, 5, 7, 2)
    assert (loop.mixed_precision, loop.gradient_accumulation_steps, loop.seed) == ("bf16", 1, 4)
    assert min(loop.sheet_every, loop.checkpoint_every, loop.validate_every) > loop.max_steps


def test_markdown_compares_with_the_last():
    rates = {".": [3.0, 5.0], "old": [2.0, 2.0]}
    figures = releases.ReleasesReport("prior", "c", None, "a processor", "no", 8, 2, 4, 20, rates)
    table, _, note = figures.markdown().partition("\n\n")
    assert table.splitlines()[2:] == ["| . | 4.00 | 2.00 | 3.00, 5.00 |", "| old | 2.00 | 1.00 | 2.00, 2.00 |"]
    assert note.startswith("`difface train prior`, c, 8 faces that were made up a step, precision no, 2 processes")


@pytest.fixture
def slower(tmp_path):
    """A release whose every step waits."""
    shutil.copytree(
        HERE / "difface_diffusers", tmp_path / "slower" / "difface_diffusers", ignore=shutil.ignore_patterns("mini*")
    )
    (tmp_path / "slower" / "difface_diffusers" / "mini").mkdir()
    loop = tmp_path / "slower" / "difface_diffusers" / "training" / "loop.py"
    text = loop.read_text()
    step = "            step += 1\n"
    assert text.count(step) == 1
    loop.write_text(text.replace(step, f"            __import__('time').sleep(0.4)\n{step}"))
    return tmp_path / "slower"


@pytest.mark.slow
def test_each_release_trains_with_its_own_code(tmp_path, capsys, slower):
    config, faces, output = write_yaml(tmp_path / "c.yaml", PRIOR), write_faces(tmp_path / "faces"), tmp_path / "out"
    arguments = ["--config", config, "--data", faces, "--output", output, "--releases", HERE, slower]
    arguments += ["--steps", 3, "--rounds", 1, "--batch-size", 2]
    assert releases.main([str(argument) for argument in arguments]) == 0
    figures = json.loads((output / "releases.json").read_text())
    fast, slow = (figures["images_per_second"][str(release)][0] for release in (HERE, slower))
    assert slow < 5 < fast
    assert (output / "releases.md").read_text() in capsys.readouterr().out


def test_a_release_that_fails_is_named(tmp_path, capsys):
    (tmp_path / "broken" / "difface_diffusers").mkdir(parents=True)
    (tmp_path / "broken" / "difface_diffusers" / "__init__.py").write_text(
        "raise ImportError('half of it is missing')"
    )
    with pytest.raises(SystemExit, match="2"):
        releases.main(["--output", str(tmp_path / "out"), "--releases", str(tmp_path / "broken"), "--steps", "1"])
    message = capsys.readouterr().err
    assert (
        f"the training of {tmp_path / 'broken'} ended with status 1" in message and "half of it is missing" in message
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--releases", "nowhere"], "--releases: nowhere holds no difface_diffusers"),
        (["--config", "no_such"], "no_such"),
    ],
)
def test_refuses_what_cannot_be(capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        releases.main(["--output", str(tmp_path / "out"), "--releases", str(HERE), *arguments])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_refuses_a_gpu_that_is_not_there(capsys, tmp_path):
    with pytest.raises(SystemExit):
        releases.main(["--output", str(tmp_path), "--releases", str(HERE), "--device", "cuda"])
    assert "--device is cuda, but torch finds no such GPU" in capsys.readouterr().err
