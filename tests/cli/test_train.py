import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import difface_diffusers.training
from difface_diffusers import SRCNNEstimator
from difface_diffusers.cli.main import main
from difface_diffusers.training import clock, shipped_config
from difface_diffusers.training.estimator import EstimatorTask
from tests import forks
from tests.conftest import warned_at

from ..training.tiny import ESTIMATOR, PRIOR, SRCNN, changed, write_faces, write_yaml


CONFIGS = {"prior": changed(PRIOR, model={"dropout": 0.2}), "estimator": ESTIMATOR}
MODELS = {"prior": "unet", "estimator": "estimator"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def arguments(task, tmp_path, config=None, data=None, output=None):
    config = config or write_yaml(tmp_path / f"{task}.yaml", CONFIGS[task])
    data, output = data or tmp_path / "faces", output or tmp_path / "run"
    return ["train", task, "--config", str(config), "--data", str(data), "--output", str(output)]


def assert_one_line(capfd, *parts):
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("difface train: ")
    for part in parts:
        assert part in lines[0]


def assert_same_model(task, first, second):
    files = [output / MODELS[task] / "diffusion_pytorch_model.safetensors" for output in (first, second)]
    first, second = map(load_file, files)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].equal(second[name]), name


# Faces


def test_faces_come_from_several_places(tmp_path, folder):
    write_faces(tmp_path / "second", seed=50)
    command = arguments("estimator", tmp_path, data=f"{folder},weight=2.5")
    assert main([*command, "--data", str(tmp_path / "second"), "--data", "nowhere,min_size=17"]) == 0
    noted = json.loads((tmp_path / "run" / "run.json").read_text())
    assert noted["data"] == f"{folder},weight=2.5 + {tmp_path / 'second'}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("faces,weight=0", "`weight` of faces is 0.0; it must be above 0 and finite"),
        ("faces,max_size=8", "`data` has nothing for a training at 16 pixels: faces from 1 to 8 pixels"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path, capfd, data, message):
    assert main(arguments("estimator", tmp_path, data=data)) == 2
    assert_one_line(capfd, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="its memory is not the C library's")
def test_a_processor_keeps_freed_memory(tmp_path, folder, keeps_memory):
    assert main(arguments("estimator", tmp_path)) == 0
    assert keeps_memory == [None]


# Training


@pytest.mark.parametrize("task", CONFIGS)
def test_trains(folder, tmp_path, task):
    assert main(arguments(task, tmp_path)) == 0
    assert (tmp_path / "run" / MODELS[task] / "config.json").is_file()
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["step"] == 6


def test_shipped_configs_go_by_name(tmp_path, capfd):
    assert main(arguments("prior", tmp_path, config="mini_prior_64")) == 2
    assert_one_line(capfd, "`data` is", "faces")  # so the config was found


def test_fine_tunes_a_saved_model(folder, tmp_path):
    SRCNNEstimator(**SRCNN).save_pretrained(tmp_path / "saved")
    still = changed({name: value for name, value in ESTIMATOR.items() if name != "model"}, loop={"learning_rate": 0})
    still = changed(still, loop={"final_learning_rate": 0})
    config = write_yaml(tmp_path / "still.yaml", still)
    assert main([*arguments("estimator", tmp_path, config), "--init-from", str(tmp_path / "saved")]) == 0
    saved = load_file(tmp_path / "saved" / "diffusion_pytorch_model.safetensors")
    tuned = load_file(tmp_path / "run" / "estimator" / "diffusion_pytorch_model.safetensors")
    assert saved.keys() == tuned.keys()
    for name in saved:
        np.testing.assert_allclose(saved[name], tuned[name], atol=1e-6)


def log(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_shows_itself_as_options_or_config_say(folder, tmp_path):
    held_out = write_faces(tmp_path / "held_out", ["v.png"], seed=50)
    options = [*arguments("estimator", tmp_path), "--validation", str(held_out), "--tensorboard"]
    assert main(options) == 0
    monitoring = {"validation": str(held_out), "tensorboard": True}
    config = write_yaml(tmp_path / "watched.yaml", ESTIMATOR | {"monitoring": monitoring})
    assert main(arguments("estimator", tmp_path, config, output=tmp_path / "again")) == 0
    assert log(tmp_path / "run")[-1] == log(tmp_path / "again")[-1]
    assert log(tmp_path / "run")[-1].keys() > {"step", "validation.loss", "validation.psnr"}
    for output in ("run", "again"):
        assert (tmp_path / output / "best" / "config.json").is_file()
        assert list((tmp_path / output / "tensorboard").iterdir())
        assert yaml.safe_load((tmp_path / output / "config.yaml").read_text())["monitoring"] == {
            **monitoring,
            "push_to_hub": None,
            "private": False,
        }


# Errors


def test_missing_config(folder, tmp_path, capfd):
    assert main(arguments("prior", tmp_path, config=tmp_path / "none.yaml")) == 2
    assert_one_line(capfd, "none.yaml", "No such file")


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"loop": {"max_stepss": 3}}, ["config.yaml", "unknown setting `loop.max_stepss`"]),
        ({"loop": {"max_steps": "many"}}, ["`loop.max_steps` is 'many'; it must be int"]),
        ({"architecture": "unet"}, ["`architecture` is 'unet'"]),
        ({"architecture": "srcnn", "model": {"dept": 3}}, ["`model`", "'dept'"]),
        ({"architecture": "srcnn", "initial_weights": "no/where"}, ["`initial_weights` is no/where"]),
    ],
)
def test_bad_config(folder, tmp_path, capfd, values, parts):
    config = write_yaml(tmp_path / "config.yaml", values)
    assert main(arguments("estimator", tmp_path, config=config)) == 2
    assert_one_line(capfd, *parts)
    assert not (tmp_path / "run").exists()


def test_config_of_the_other_training(folder, tmp_path, capfd):
    config = write_yaml(tmp_path / "config.yaml", ESTIMATOR)
    assert main(arguments("prior", tmp_path, config=config)) == 2
    assert_one_line(capfd, "unknown setting `architecture`")


def test_missing_data(tmp_path, capfd):
    assert main(arguments("estimator", tmp_path, data=tmp_path / "nowhere")) == 2
    assert_one_line(capfd, "`data` is", "nowhere", "there is no such file or folder")


def test_missing_faces_to_validate_on(folder, tmp_path, capfd):
    assert main([*arguments("estimator", tmp_path), "--validation", str(tmp_path / "nowhere")]) == 2
    assert_one_line(capfd, "`monitoring.validation`: ", "nowhere")
    assert not (tmp_path / "run").exists()


def test_empty_data(tmp_path, capfd):
    (tmp_path / "faces").mkdir()
    assert main(arguments("prior", tmp_path)) == 2
    assert_one_line(capfd, "`data` is", "no image")


@pytest.mark.parametrize("cut", [False, True])
def test_unreadable_image(folder, tmp_path, capfd, cut):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(folder / "broken.jpg")
    content = (folder / "broken.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(content[: len(content) * 9 // 10] if cut else b"no picture")
    assert main(arguments("estimator", tmp_path)) == 2
    assert_one_line(capfd, "broken.jpg cannot be read as an image")


def test_an_image_that_is_not_square_is_refused_or_left_out(folder, tmp_path, capfd):
    Image.new("RGB", (32, 31)).save(folder / "wide.png")
    assert main(arguments("estimator", tmp_path)) == 2
    assert_one_line(
        capfd, "`data` is ", "1 of 8 images", "wide.png is 32 x 31 pixels, and not square", "`data.skip_broken`"
    )
    assert not (tmp_path / "run").exists()
    config = write_yaml(tmp_path / "skip.yaml", changed(ESTIMATOR, data={"skip_broken": True}))
    with warned_at(__file__, "1 of 8 images cannot be used"):
        assert main(arguments("estimator", tmp_path, config)) == 0


def test_validation_on_the_faces_of_the_training(folder, tmp_path, capfd):
    assert main([*arguments("estimator", tmp_path), "--validation", str(folder / "sub")]) == 2
    assert_one_line(capfd, "`monitoring.validation` is ", "1 of its 1 faces", "trained on")
    assert not (tmp_path / "run").exists()


def test_output_of_another_model(folder, tmp_path, capfd):
    assert main(arguments("estimator", tmp_path)) == 0
    config = write_yaml(tmp_path / "other.yaml", changed(ESTIMATOR, model={"num_channels": 12}))
    capfd.readouterr()
    assert main(arguments("estimator", tmp_path, config=config)) == 2
    assert_one_line(
        capfd,
        "`output` is",
        "checkpoint-00000006 of another model: `model.num_channels` was 8 and is 12;",
        "`--go-on`",
    )


def test_output_of_other_settings(folder, tmp_path, capfd):
    assert main(arguments("estimator", tmp_path)) == 0
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    changes = {"loop": {"learning_rate": 2e-3, "max_steps": 7, "log_every": 2}, "degradation": {"downscale": [1, 4]}}
    other = arguments("estimator", tmp_path, write_yaml(tmp_path / "other.yaml", changed(ESTIMATOR, **changes)))
    capfd.readouterr()
    assert main(other) == 2
    assert_one_line(
        capfd,
        "checkpoint-00000006 of another training: `degradation.downscale` was [0.8, 32.0] and is [1.0, 4.0],"
        " `loop.learning_rate` was 0.001 and is 0.002; name another folder",
    )
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert main([*other, "--go-on"]) == 0
    assert (tmp_path / "run" / "checkpoint-00000007").is_dir()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["loop"]["learning_rate"] == 2e-3


def test_output_that_is_a_file(folder, tmp_path, capfd):
    (tmp_path / "run").write_text("taken")
    assert main(arguments("estimator", tmp_path)) == 2
    assert_one_line(capfd, "run")
    assert (tmp_path / "run").read_text() == "taken"


@pytest.mark.parametrize("argv", [["train"], ["train", "upscaler"], ["train", "prior", "--config", "x"]])
def test_incomplete_commands(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert "usage: difface train" in capsys.readouterr().err


# What happens on the way


def test_a_loss_that_is_not_finite_ends_the_command(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(
        EstimatorTask, "loss", lambda self, model, batch: model(batch["degraded"]).mean() * float("nan")
    )
    assert main(arguments("estimator", tmp_path)) == 1
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("difface train: "))
    assert line.startswith(
        "difface train: step 1, at the learning rate 0.001, has a loss of nan and gradients of norm"
    )
    assert not list((tmp_path / "run").glob("checkpoint-*")) and not (tmp_path / "run" / "estimator").exists()


@pytest.fixture
def small_files():
    """Let no file grow above 8,000 bytes, which a process is told like a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_the_command_in_a_sentence(folder, tmp_path, small_files, capsys):
    assert main(arguments("estimator", tmp_path)) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("difface train: "))
    assert line.startswith(f"difface train: {tmp_path / 'run'} cannot be written to (") and "File too large" in line
    assert line.endswith("the same command begins anew, as there is no checkpoint yet.")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "log.jsonl", "run.json"]


# Interruption


def test_interrupted_before_the_first_step(folder, tmp_path, capfd, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(difface_diffusers.training, "train_estimator", interrupted)
    assert main(arguments("estimator", tmp_path)) == 130
    assert capfd.readouterr().err == "stopped; run the same command again to go on\n"


def wait_for_three_steps(is_alive, output, log):
    deadline = time.monotonic() + 120
    lines = output / "log.jsonl"
    while is_alive() and not (lines.is_file() and len(lines.read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    assert is_alive(), log.read_text()


def interrupt(command, output, log, number=signal.SIGINT):
    """Start a command in a process group of its own and send a signal to the group after three steps."""
    process = forks.start(forks.COMMAND, *command, log=log, environment=ENVIRONMENT)
    wait_for_three_steps(process.is_alive, output, log)
    os.killpg(process.pid, number)
    process.join(60)
    return process.exitcode


def test_interrupted_and_resumed(folder, tmp_path, capfd):
    slow = changed(ESTIMATOR, loop={"max_steps": 60, "batch_size": 16, "num_workers": 1})
    config = write_yaml(tmp_path / "slow.yaml", slow)
    whole, resumed, log = tmp_path / "whole", tmp_path / "resumed", tmp_path / "log.txt"
    command = arguments("estimator", tmp_path, config, output=resumed)
    assert interrupt(command, resumed, log) == 130
    assert "run the same command again to go on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert len(list(resumed.glob("checkpoint-*"))) == 1
    assert not (resumed / "estimator").exists()

    assert main(command) == 0
    assert main(arguments("estimator", tmp_path, config, output=whole)) == 0
    assert_same_model("estimator", whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("task", CONFIGS)
def test_killed_and_resumed(folder, tmp_path, task):
    config = write_yaml(
        tmp_path / "config.yaml", changed(CONFIGS[task], loop={"max_steps": 60, "checkpoint_every": 2})
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    command = arguments(task, tmp_path, config, output=resumed)
    killed = interrupt(command, resumed, tmp_path / "log.txt", signal.SIGKILL)
    assert killed == -signal.SIGKILL
    assert not (resumed / MODELS[task]).exists()
    assert main(command) == 0
    assert main(arguments(task, tmp_path, config, output=whole)) == 0
    assert_same_model(task, whole, resumed)
    assert [(entry["step"], entry["loss"]) for entry in log(whole)] == [
        (entry["step"], entry["loss"]) for entry in log(resumed)
    ]
    assert not list(resumed.glob(".*"))


def test_a_training_whose_time_is_over(folder, tmp_path, capfd, monkeypatch):
    now = iter(range(1000, 100_000, 5))  # whoever asks for the time needs five seconds
    monkeypatch.setattr(clock, "monotonic", lambda: next(now))
    config = write_yaml(tmp_path / "short.yaml", changed(ESTIMATOR, loop={"max_steps": 1000, "max_seconds": 300}))
    assert main(arguments("estimator", tmp_path, config)) == 0
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"saved at step \d+, as 300 seconds are over; the same command goes on for as long", last)
    assert SRCNNEstimator.from_pretrained(tmp_path / "run" / "estimator")
    step = int(re.search(r"\d+", last)[0])
    assert 2 < step < 60
    assert main(arguments("estimator", tmp_path, config)) == 0
    assert f"going on from step {step} with 300 seconds" in capfd.readouterr().out


# Several processes


def launch(arguments):
    """Train in two processes, on a CPU too."""
    return [
        *[sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"],
        *["--multi_gpu", "--num_processes", "2", "-m", "difface_diffusers.cli", *arguments],
    ]


def tensors(folder):
    """Return all tensors in the files of a folder."""
    return [value for path in folder.glob("*.safetensors") for value in load_file(path).values()]


def losses(output):
    return [entry["loss"] for entry in log(output) if "loss" in entry]


def validations(output):
    return [entry for entry in log(output) if "validation.loss" in entry]


@pytest.mark.slow
@pytest.mark.parametrize("task", CONFIGS)
def test_two_processes_interrupted_and_resumed(folder, tmp_path, task):
    settings = {"max_steps": 60, "batch_size": 4, "num_workers": 1, "gradient_accumulation_steps": 2}
    settings["validate_every"] = 20
    held_out = write_faces(tmp_path / "held_out", ["v_0.png", "v_1.png", "v_2.png"], seed=50)
    values = CONFIGS[task] | {"monitoring": {"validation": str(held_out)}}
    config = write_yaml(tmp_path / "config.yaml", changed(values, loop=settings))
    whole, resumed, log = tmp_path / "whole", tmp_path / "resumed", tmp_path / "log.txt"

    subprocess.run(launch(arguments(task, tmp_path, config, output=whole)), env=ENVIRONMENT, check=True, timeout=240)
    command = launch(arguments(task, tmp_path, config, output=resumed))
    with log.open("wb") as file:
        launcher = subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True)
    wait_for_three_steps(lambda: launcher.poll() is None, resumed, log)
    os.killpg(launcher.pid, signal.SIGINT)
    launcher.wait(60)  # its own status and traceback are not ours
    assert log.read_text().count("run the same command again to go on") == 2
    (checkpoint,) = resumed.glob("checkpoint-*")
    assert 3 <= json.loads((checkpoint / "state.json").read_text())["step"] < 60

    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=240)
    assert_same_model(task, whole, resumed)
    assert [entry["step"] for entry in validations(whole)] == [20, 40, 60]
    assert validations(whole) == validations(resumed)

    settings["gradient_accumulation_steps"] = 4
    config = write_yaml(tmp_path / "alone.yaml", changed(values, loop=settings))
    assert main(arguments(task, tmp_path, config, output=tmp_path / "alone")) == 0
    assert losses(whole) == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    for together, alone in zip(validations(whole), validations(tmp_path / "alone"), strict=True):
        assert together == pytest.approx(alone, rel=1e-3)


@pytest.mark.slow
def test_two_processes_stop_together(folder, tmp_path):
    wild = {
        "learning_rate": 1e30,
        "final_learning_rate": 1e30,
        "warmup_steps": 0,
        "max_steps": 60,
        "checkpoint_every": 1,
    }
    config = write_yaml(tmp_path / "wild.yaml", changed(ESTIMATOR, loop=wild))
    command = launch(arguments("estimator", tmp_path, config))
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0
    said = re.findall(r"difface train: step (\d+), at the learning rate 1e\+30, has a loss of", ended.stderr)
    assert said and set(said) == {"2"}
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000001"]
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run" / "checkpoint-00000001"))
    assert not (tmp_path / "run" / "estimator").exists()


@pytest.mark.slow
def test_two_processes_that_lack_a_face_stop_together(folder, tmp_path):
    config = write_yaml(tmp_path / "long.yaml", changed(ESTIMATOR, loop={"max_steps": 1_000_000, "num_workers": 1}))
    command, text = launch(arguments("estimator", tmp_path, config)), tmp_path / "log.txt"
    with text.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT)
        while not (tmp_path / "run" / "log.jsonl").is_file():
            assert process.poll() is None, text.read_text()
            time.sleep(0.01)
        (folder / "c_0.png").unlink()
        assert process.wait(timeout=120) != 0
    assert re.search(
        r"difface train: a face can no longer be read: .*c_0\.png.*; the same command goes on", text.read_text()
    )
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert f"goes on from {checkpoint.name}." in text.read_text()


@pytest.mark.slow
def test_two_processes_are_out_of_time_together(folder, tmp_path):
    config = write_yaml(tmp_path / "short.yaml", changed(ESTIMATOR, loop={"max_steps": 1_000_000, "max_seconds": 15}))
    command = launch(arguments("estimator", tmp_path, config))
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    steps = re.findall(r"saved at step (\d+), as 15 seconds are over", ended.stderr)
    assert len(steps) == 2 and steps[0] == steps[1]
    assert (tmp_path / "run" / f"checkpoint-{int(steps[0]):08d}").is_dir()
    assert SRCNNEstimator.from_pretrained(tmp_path / "run" / "estimator")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", CONFIGS)
def test_two_processes_train_the_official_512_networks(folder, tmp_path, task):
    values = yaml.safe_load(shipped_config(f"ffhq512_{task}").read_text())
    settings = {"max_steps": 3, "batch_size": 1, "gradient_checkpointing": True, "checkpoint_every": 2, "log_every": 1}
    settings |= {"warmup_steps": 0, "num_workers": 0}
    config = write_yaml(tmp_path / "config.yaml", changed(values, loop=settings))
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"

    subprocess.run(launch(arguments(task, tmp_path, config, output=whole)), env=ENVIRONMENT, check=True)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of one process, kilobytes
    print(f"{task}: two processes of {largest / 1e6:.1f} GB at most")
    assert 2 * largest < 24_000_000
    shutil.copytree(whole / "checkpoint-00000002", resumed / "checkpoint-00000002")
    subprocess.run(launch(arguments(task, tmp_path, config, output=resumed)), env=ENVIRONMENT, check=True)
    assert_same_model(task, whole, resumed)

    config = write_yaml(tmp_path / "alone.yaml", changed(values, loop=settings | {"gradient_accumulation_steps": 2}))
    assert main(arguments(task, tmp_path, config, output=tmp_path / "alone")) == 0
    print(f"{task}: losses {losses(whole)} of two processes, {losses(tmp_path / 'alone')} of one")
    assert losses(whole) == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
