import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import DifFacePipeline
from difface_diffusers.acceleration import processor
from difface_diffusers.cli import main
from difface_diffusers.imaging.files import read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from tests import forks
from tests.conftest import SIZE, free_port


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", SIZE), ("b.png", SIZE), ("c.jpg", 20)):
        Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def run(model, tmp_path):
    def run(*arguments, output="out"):
        arguments = [str(argument) for argument in arguments]
        return main(["restore", *arguments, "--aligned", "--model", str(model), "-o", str(tmp_path / output)])

    return run


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_restores_a_folder(run, folder, tmp_path, capsys):
    assert run(folder) == 0
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.jpg"]
    assert read(tmp_path / "out" / "a.png").shape == (SIZE, SIZE, 3)
    assert read(tmp_path / "out" / "c.jpg").shape == (20, 20, 3)
    output = capsys.readouterr().out
    assert f"{folder / 'a.png'} -> {tmp_path / 'out' / 'a.png'}" in output
    assert "restored 3 of 3 inputs" in output


def test_writes_what_the_pipeline_answers(run, folder, tmp_path, pipe):
    run(folder / "a.png", "--seed", 7, "--steps", 3, "--start", 300, "--eta", 1, "--s-noise", 1.2)
    expected = pipe(
        Image.open(folder / "a.png"), num_inference_steps=3, start_timestep=300, eta=1.0, s_noise=1.2,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), np.asarray(expected))


def test_a_cpu_keeps_the_memory_that_it_frees(run, folder, keeps_memory):
    assert run(folder, "--device", "cpu") == 0
    assert len(keeps_memory) == 1
    assert run(folder, "--device", "cuda:99") == 2
    assert len(keeps_memory) == 1


@pytest.mark.parametrize("native", [True, False])
def test_a_precision_that_the_processor_emulates_is_warned_of(run, folder, monkeypatch, capsys, native):
    monkeypatch.setattr(processor, "is_native", lambda dtype: native or dtype is not torch.bfloat16)
    monkeypatch.setattr(processor, "_capabilities", lambda: {"architecture": "x86_64"})  # torch 2.6 tells none
    assert run(folder / "a.png", "--dtype", "float32", "--device", "cpu", output="float32") == 0
    assert "--dtype" not in capsys.readouterr().err
    assert run(folder / "a.png", "--dtype", "bfloat16", "--device", "cpu", output="bfloat16") == 0
    assert ("--dtype bfloat16: this processor (" in capsys.readouterr().err) is not native


def test_each_face_from_a_start_of_its_own(run, folder, tmp_path, pipe):
    pipe = DifFacePipeline(**pipe.components, default_num_inference_steps=2, noise_margin=1.0)
    pipe.save_pretrained(tmp_path / "model")
    assert run(folder / "a.png", "--start", "auto") == 0
    face = torch.from_numpy(read(folder / "a.png") / np.float32(255)).permute(2, 0, 1)[None]
    _, (start,) = pipe.prepare_estimates(face, pipe.with_defaults(start_timestep="auto"))
    assert 10 < start < 990
    expected = pipe(face, start_timestep="auto", generator=torch.Generator().manual_seed(0)).images[0]
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), np.asarray(expected))


def test_a_preset_of_the_model(run, folder, tmp_path, pipe, capsys):
    presets = {"fast": {"num_inference_steps": 2, "start_timestep": 300}}
    DifFacePipeline(**pipe.components, presets=presets).save_pretrained(tmp_path / "model")
    assert run(folder / "a.png", "--preset", "fast") == 0
    expected = pipe(
        Image.open(folder / "a.png"), num_inference_steps=2, start_timestep=300,
        generator=torch.Generator().manual_seed(0),
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), np.asarray(expected))
    assert run(folder / "a.png", "--preset", "slow") == 2
    assert "`preset` is 'slow'; it must be one of fast" in capsys.readouterr().err


def test_a_scheduler_that_is_given_comes_before_that_of_the_preset(run, folder, tmp_path, pipe):
    presets = {"fast": {"scheduler": "dpm-multistep", "num_inference_steps": 2}}
    DifFacePipeline(**pipe.components, presets=presets).save_pretrained(tmp_path / "model")
    for output, options, scheduler in (("preset", [], "dpm-multistep"), ("given", ["--scheduler", "euler"], "euler")):
        assert run(folder / "a.png", "--preset", "fast", *options, output=output) == 0
        expected = pipe(
            Image.open(folder / "a.png"), num_inference_steps=2, scheduler=scheduler,
            generator=torch.Generator().manual_seed(0),
        ).images[0]  # fmt: skip
        np.testing.assert_array_equal(read(tmp_path / output / "a.png"), np.asarray(expected))


def test_a_file_comes_out_the_same_whatever_is_restored_with_it(run, folder, tmp_path):
    run(folder, "--batch-size", 2, "--samples", 2, output="all")
    run(folder / "b.png", "--samples", 2, output="alone")
    assert names(tmp_path / "all") == ["a_1.png", "a_2.png", "b_1.png", "b_2.png", "c_1.jpg", "c_2.jpg"]
    for name in ("b_1.png", "b_2.png"):
        together, alone = (read(tmp_path / output / name).astype(int) for output in ("all", "alone"))
        assert np.abs(together - alone).max() <= 1
    assert np.abs(read(tmp_path / "all" / "b_1.png").astype(int) - read(tmp_path / "all" / "b_2.png")).mean() > 2


def test_a_seed_and_a_scheduler_change_the_picture(run, folder, tmp_path):
    for output, extra in (("one", []), ("two", ["--seed", 1]), ("three", ["--scheduler", "dpm-multistep"])):
        run(folder / "a.png", *extra, output=output)
    one, two, three = (read(tmp_path / output / "a.png") for output in ("one", "two", "three"))
    assert (one != two).any() and (one != three).any()


def test_compare_shows_input_estimate_and_restoration(run, folder, tmp_path):
    run(folder / "c.jpg", "--compare", output="out/x.png")
    assert names(tmp_path / "out") == ["x.png", "x_compare.png"]
    with Image.open(tmp_path / "out" / "x_compare.png") as picture:
        assert picture.width > 3 * 20
        assert picture.crop((4, picture.height - 24, 24, picture.height - 4)).tobytes() == \
            Image.open(folder / "c.jpg").tobytes()  # fmt: skip


def test_a_bad_file_does_not_stop_the_others(run, folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    Image.new("F", (8, 8)).save(folder / "float.tif")
    assert run(folder, folder / "absent.png", "--batch-size", 2) == 1
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.jpg"]
    captured = capsys.readouterr()
    assert "restored 3 of 7 inputs" in captured.out
    for name in ("broken.png", "cut.png", "float.tif", "absent.png"):
        assert f"failed: {folder / name}: " in captured.err
    assert "Traceback" not in captured.err


def test_an_unwritable_place_fails_the_file_alone(run, folder, tmp_path, capsys):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert run(folder) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples is 0; it must be at least 1"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--steps", "500"], "`num_inference_steps` is 500; it must be at least 1 and at most 400"),
        (["--start", "2000"], "`start_timestep` is 2000"),
        (["--start", "auto"], "`start_timestep` is 'auto', for which this pipeline has no `noise_margin`"),
        (["--eta", "2"], "`eta` is 2.0"),
        (["--upscale", "0.5"], "--upscale is 0.5; it must be within 1 .. 8"),
        (["--upscale", "nan"], "--upscale is nan"),
        (["--background", "no/such"], "--background: "),
        (["--background-blend", "1.5"], "--background-blend is 1.5; it must be within 0 .. 1"),
        (["--background-denoise", "-1"], "--background-denoise is -1.0; it must be within 0 .. 1"),
        (["--background-denoise", "0.5"], "--background: `denoise_strength` is 0.5; below 1 is for realesr-general"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used"),
        (["--device", "gpu"], "--device gpu cannot be used"),
        (["--model", "no/such"], "--model no/such cannot be loaded"),
        (["-o", "OUT/a.txt"], "is a file that is no image"),
    ],
)
def test_refuses_what_it_cannot_do(run, folder, tmp_path, capsys, arguments, message):
    (tmp_path / "a.txt").write_text("")
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    assert main(["restore", str(folder / "a.png"), "--aligned", "-o", str(tmp_path / "out"),
                 "--model", str(tmp_path / "model"), *arguments]) == 2  # fmt: skip
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_never_overwrites_an_input(run, folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run(folder, output="in") == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "option",
    [
        ["--faces", "largest"],
        ["--save-crops"],
        ["--draw-box"],
        ["--damage-mask", "mask.png"],
        ["--blend", "0.5"],
        ["--no-keep-clean"],
        ["--match-grain", "off"],
    ],
)
def test_options_of_photographs_are_refused_with_aligned(run, folder, capsys, option):
    assert run(folder, *option) == 2
    assert "are for photographs; leave out --aligned" in capsys.readouterr().err


def test_an_empty_folder(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 1
    assert "the folder holds no image" in capsys.readouterr().err


def test_faces_are_names_or_numbers(run, folder, capsys):
    with pytest.raises(SystemExit):
        run(folder, "--faces", "first")
    assert "'first' is neither all, largest, center nor numbers as 0,2" in capsys.readouterr().err


def test_a_report_that_cannot_be_written(run, folder, tmp_path, capsys):
    assert run(folder, "--report", tmp_path) == 1
    assert "--report" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.jpg"]


def test_aligned_faces_keep_metadata_alpha_and_16_bits(run, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65535, (SIZE, SIZE, 4), dtype=np.uint16)
    write_photo(PhotoFile(pixels, Metadata(dpi=(300, 300))), tmp_path / "deep.png")
    run(tmp_path / "deep.png")
    restored = read_photo(tmp_path / "out" / "deep.png")
    assert restored.pixels.dtype == np.uint16 and restored.pixels.shape == pixels.shape
    np.testing.assert_array_equal(restored.pixels[..., 3], pixels[..., 3])
    assert restored.metadata.dpi == pytest.approx((300, 300), rel=1e-3)


def start_two(command, folder):
    """Run a command in two processes as a launcher starts them; return the first one's exit status and what both printed."""
    port = free_port()
    started = []
    for rank in range(2):
        given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in given.items()} | {"MASTER_ADDR": "127.0.0.1"}
        started.append(forks.start(forks.COMMAND, *command, log=folder / f"{rank}.txt", environment=environment))
    for process in started:
        process.join(120)
    printed = "".join((folder / f"{rank}.txt").read_text() for rank in range(2))
    assert started[1].exitcode == 0, printed
    return started[0].exitcode, printed


def launch_two(command, folder):
    """The same by `accelerate launch`, which starts Python anew for each."""
    launcher = ["launch", "--main_process_port", "0", "--multi_gpu", "--num_processes", "2"]  # on a CPU too
    command = [*launcher, "-m", "difface_diffusers.cli", *command]
    log = folder / "log.txt"
    status = forks.run("from accelerate.commands.accelerate_cli import main; main()", *command, log=log)
    return status, log.read_text()


@pytest.mark.parametrize("start", [start_two, pytest.param(launch_two, marks=pytest.mark.slow)])
def test_two_processes_share_the_files(run, folder, model, tmp_path, start):
    (folder / "broken.png").write_bytes(b"no image")
    command = ["restore", folder, "--aligned", "--model", model, "-o", tmp_path / "two"]
    command += ["--report", tmp_path / "two.json", "--batch-size", 1]  # other batches, other rounding
    status, printed = start(command, tmp_path)
    assert status == 1, printed
    assert printed.count("restored 3 of 4 inputs") == 1

    assert run(folder, "--report", tmp_path / "one.json", "--batch-size", 1, output="one") == 1
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert [entry["input"] for entry in one] == [entry["input"] for entry in two]
    for name in names(tmp_path / "one"):
        np.testing.assert_array_equal(read(tmp_path / "one" / name), read(tmp_path / "two" / name))
