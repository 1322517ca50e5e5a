import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli import batch, main
from difface_diffusers.cli.inputs import Source
from difface_diffusers.evaluation import face_metrics, identity_distance
from difface_diffusers.evaluation.protocol import read_image
from difface_diffusers.imaging.files import read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from tests import forks
from tests.faces.test_detection import ASTRONAUT, scene, wall


@pytest.fixture(scope="module")
def photo():
    """A photograph with two faces."""
    astronaut = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    left, _ = scene(astronaut, 40, 10, (160, 130), (65, 80))
    right, _ = scene(astronaut[:, ::-1], 50, 0, (160, 130), (65, 80))
    return np.concatenate([left, right], axis=1)


@pytest.fixture
def folder(tmp_path, photo):
    (tmp_path / "in" / "album").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "camera"
    Image.fromarray(np.rot90(photo)).save(tmp_path / "in" / "a.jpg", exif=exif)
    Image.fromarray(photo[..., 0]).save(tmp_path / "in" / "album" / "b.png", dpi=(300, 300))
    Image.fromarray(wall(90, 120)).save(tmp_path / "in" / "c.webp")
    return tmp_path / "in"


@pytest.fixture
def run(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")

    def run(*arguments, output="out"):
        arguments = [str(argument) for argument in arguments]
        return main(["restore", *arguments, "--model", str(tmp_path / "model"), "-o", str(tmp_path / output)])

    return run


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_restores_a_tree_of_photographs(run, folder, tmp_path, capsys):
    assert run(folder, "-r", "--report", tmp_path / "report.json") == 0
    assert tree(tmp_path / "out") == ["a.jpg", "album/b.png", "c.webp"]
    upright = read_photo(tmp_path / "out" / "a.jpg")
    assert upright.pixels.shape == (320, 520, 3)
    assert b"camera" in upright.metadata.exif
    gray = read_photo(tmp_path / "out" / "album" / "b.png")
    assert gray.pixels.shape == (320, 520) and gray.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    output = capsys.readouterr().out
    assert "a.jpg (2 faces)" in output and "c.webp (no faces)" in output and "restored 3 of 3 inputs" in output

    a, b, c = json.loads((tmp_path / "report.json").read_text())
    assert a["input"] == str(folder / "a.jpg") and a["outputs"] == [str(tmp_path / "out" / "a.jpg")]
    assert [len(each["faces"]) for each in (a, b, c)] == [2, 2, 0]
    assert 0 < a["faces"][0]["box"][0] < 130 < a["faces"][1]["box"][0] < a["faces"][1]["box"][2] < 260
    assert a["faces"][0]["score"] > 0.7 and len(a["faces"][0]["landmarks"]) == 5
    assert a["seconds"] > 0 and a["error"] is None and not a["skipped"]


def test_the_report_says_what_was_done_to_each_face_and_why(run, pipe, folder, tmp_path, capsys):
    report = tmp_path / "report.json"

    def treatments(*options):
        assert run(folder / "a.jpg", "--report", report, *options) == 0
        return [face["treatment"] for face in json.loads(report.read_text())[0]["faces"]]

    for whole in treatments():
        assert whole["damage"] > 0 and whole["reason"] == "all of the restoration"
    assert "left as" not in capsys.readouterr().out
    assert [(half["repaired"], half["repainted"]) for half in treatments("--blend", 0.5)] == [(0.5, 0.5)] * 2
    pipe.register_to_config(clean_damage=1e6)
    pipe.save_pretrained(tmp_path / "model")
    assert [face["reason"] for face in treatments()] == ["left as it is: it is clean"] * 2
    assert "a.jpg (2 faces, 2 left as they are)" in capsys.readouterr().out
    spared = read_photo(tmp_path / "out" / "a.jpg").pixels.astype(int)
    assert [face["repainted"] for face in treatments("--no-keep-clean", "--match-grain", "off")] == [1, 1]
    assert np.abs(read_photo(tmp_path / "out" / "a.jpg").pixels - spared).max() > 50


def test_options_reach_the_restoration(run, folder, tmp_path):
    run(folder / "a.jpg", "--upscale", 1, "--faces", 1, "--save-crops", "--compare", "--samples", 2, "--format", "png")
    assert tree(tmp_path / "out") == [
        "a_1.png", "a_1_compare.png",
        "a_1_faces/01_estimate.png", "a_1_faces/01_input.png", "a_1_faces/01_restored_1.png", "a_1_faces/01_restored_2.png",
        "a_2.png", "a_2_compare.png",
    ]  # fmt: skip
    first, second = (np.asarray(Image.open(tmp_path / "out" / name)).astype(int) for name in ("a_1.png", "a_2.png"))
    original = read_photo(folder / "a.jpg").pixels
    np.testing.assert_array_equal(first[:, :120], original[:, :120])  # the left face was not chosen
    assert (first != second)[:, 130:].any()
    with Image.open(tmp_path / "out" / "a_1_compare.png") as comparison:
        assert comparison.width > 2 * 260


def test_damage_is_filled_first(run, folder, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    photo = read_photo(folder / "c.webp").pixels
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "c.png")
    assert run(folder, "--upscale", 1, "--format", "png", output="whole") == 0
    assert run(folder, "--upscale", 1, "--format", "png", "--damage-mask", tmp_path / "masks") == 0
    for name, filled in (("a.png", False), ("c.png", True)):
        whole, result = (read_photo(tmp_path / output / name).pixels for output in ("whole", "out"))
        assert (whole != result).any() == filled
    np.testing.assert_array_equal(result[mask == 0], whole[mask == 0])

    (tmp_path / "masks" / "c.png").write_bytes(b"no image")
    capsys.readouterr()
    assert run(folder, "--damage-mask", tmp_path / "masks", output="third") == 1
    assert tree(tmp_path / "third") == ["a.jpg"] and f"failed: {folder / 'c.webp'}: " in capsys.readouterr().err
    assert run(folder, "--damage-mask", tmp_path / "absent", output="fourth") == 2
    assert "--damage-mask" in capsys.readouterr().err


def test_bad_files_and_numbers_fail_alone(run, folder, tmp_path, capsys):
    (folder / "broken.jpg").write_bytes(b"no image")
    assert run(folder, "--faces", "0,1", "--report", tmp_path / "report.json") == 1
    assert tree(tmp_path / "out") == ["a.jpg"]
    captured = capsys.readouterr()
    assert f"failed: {folder / 'c.webp'}: `faces` has the index 0, but 0 faces were found" in captured.err
    assert f"failed: {folder / 'broken.jpg'}: " in captured.err and "restored 1 of 3 inputs" in captured.out
    errors = {each["input"]: each["error"] for each in json.loads((tmp_path / "report.json").read_text())}
    assert sorted(map(bool, errors.values())) == [False, True, True]


def test_skip_existing_does_the_rest(run, folder, tmp_path, capsys):
    assert run(folder, "--compare") == 0
    before = (tmp_path / "out" / "a.jpg").stat().st_mtime_ns
    (tmp_path / "out" / "c_compare.png").unlink()
    capsys.readouterr()
    assert run(folder, "--compare", "--skip-existing") == 0
    output = capsys.readouterr().out
    assert "restored 1 of 2 inputs, 1 were there already" in output and "c.webp (no faces)" in output
    assert (tmp_path / "out" / "a.jpg").stat().st_mtime_ns == before


def test_skip_existing_notices_missing_faces(run, folder, tmp_path, capsys):
    assert run(folder, "--save-crops") == 0
    assert (tmp_path / "out" / "a_faces" / "02_restored.png").exists() and (tmp_path / "out" / "c_faces").is_dir()
    shutil.rmtree(tmp_path / "out" / "a_faces")
    capsys.readouterr()
    assert run(folder, "--save-crops", "--skip-existing") == 0
    assert "restored 1 of 2 inputs, 1 were there already" in capsys.readouterr().out
    assert (tmp_path / "out" / "a_faces" / "02_restored.png").exists()


def test_faces_of_two_photographs_do_not_share_a_folder(run, folder, tmp_path, capsys):
    shutil.copy(folder / "c.webp", folder / "a.webp")
    assert run(folder, "--save-crops") == 2
    assert f"several inputs would be written to {tmp_path / 'out' / 'a_faces'};" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(run, folder, tmp_path, capsys, monkeypatch):
    write = batch.write_photo

    def full(photo, path):
        if path.name == "a.jpg":
            raise OSError(28, "No space left on device")
        write(photo, path)

    monkeypatch.setattr(batch, "write_photo", full)
    assert run(folder) == 1
    assert tree(tmp_path / "out") == ["c.webp"]
    assert "a.jpg: cannot be written: [Errno 28] No space left on device" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(run, folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(folder, output="file/out") == 1
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err and "restored 0 of 2 inputs" in captured.out


def test_photographs_are_read_a_few_at_a_time(folder, tmp_path, monkeypatch):
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file, side in zip(files, (10, 10, 30, 10, 10), strict=True):
        write_photo(PhotoFile(np.zeros((side, side), np.uint8), Metadata()), file)
    monkeypatch.setattr(batch, "PIXELS_TOGETHER", 250)
    sources = [Source(file) for file in files]
    groups = [[source.stem for source in group] for group in batch._read_together(sources, 8)]
    assert groups == [["0", "1"], ["2"], ["3", "4"]]
    monkeypatch.setattr(batch, "PIXELS_TOGETHER", 10**6)
    assert [len(group) for group in batch._read_together(sources, 2)] == [2, 2, 1]


WAITS_AT_THE_FOURTH = """
import itertools, time
from difface_diffusers.cli import batch
restore, calls = batch.restore_photos, itertools.count(1)
batch.restore_photos = lambda *args, **kwargs: time.sleep(60) if next(calls) == 4 else restore(*args, **kwargs)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_whole_files_and_can_be_finished(run, photo, tmp_path, number):
    """The kill comes soon after the first of several photographs was written, and surely before the fourth."""
    (tmp_path / "several").mkdir()
    for index in range(5):
        write_photo(PhotoFile(photo, Metadata()), tmp_path / "several" / f"{index}.png")
    arguments = ["restore", str(tmp_path / "several"), "--faces", "largest", "-o", str(tmp_path / "out"),
                 "--model", str(tmp_path / "model"), "--batch-size", "1"]  # fmt: skip
    process = forks.start(WAITS_AT_THE_FOURTH + forks.COMMAND, *arguments, log=tmp_path / "errors.txt")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.png")):
        assert time.monotonic() < deadline, (tmp_path / "errors.txt").read_text()
        time.sleep(0.002)
    os.kill(process.pid, number)
    process.join(60)
    done = sorted((tmp_path / "out").glob("[0-9].png"))
    assert 1 <= len(done) < 4
    for file in done:
        assert read_photo(file).pixels.shape == (320, 520, 3)
    if number == signal.SIGINT:
        errors = (tmp_path / "errors.txt").read_text()
        assert process.exitcode == 130 and "what was finished is whole" in errors and "Traceback" not in errors
        assert tree(tmp_path / "out") == [file.name for file in done]
    assert run(tmp_path / "several", "--faces", "largest", "--skip-existing") == 0
    assert len(list((tmp_path / "out").glob("[0-9].png"))) == 5


# Samples


@pytest.fixture
def network(monkeypatch):
    """Mean colors stand for identities."""

    class MeanColor:
        def compute_face_descriptor(self, chips):
            return [chip.reshape(-1, 3).mean(axis=0) / 255 for chip in chips]

    monkeypatch.setattr(face_metrics, "load_identity_network", MeanColor)


def test_uncertainty_is_drawn_and_reported(run, folder, tmp_path, network, capsys):
    arguments = (folder / "a.jpg", "--samples", 3, "--uncertainty", "--report", tmp_path / "report.json")
    assert run(*arguments) == 0
    assert tree(tmp_path / "out") == ["a_1.jpg", "a_1_uncertainty.png", "a_2.jpg", "a_3.jpg"]
    drawn = read_photo(tmp_path / "out" / "a_1_uncertainty.png").pixels
    assert drawn.shape == (320, 520, 3)
    samples = np.stack([read_photo(tmp_path / "out" / f"a_{number}.jpg").pixels for number in (1, 2, 3)])
    spread = samples.std(axis=0).mean(axis=-1)
    brightness = drawn.astype(float).sum(axis=-1)
    assert brightness[spread > 20].mean() > 3 * brightness[spread < 2].mean()
    faces = json.loads((tmp_path / "report.json").read_text())[0]["faces"]
    assert len(faces) == 2 and {"box", "uncertainty", "identity_distance", "coarse_psnr"} < set(faces[0])
    assert len(faces[0]["identity_distance"]) == 3 and 0 < faces[0]["uncertainty"] < 1
    assert f"face 2: uncertainty {faces[1]['uncertainty']:.3f}, identity moved by" in capsys.readouterr().out
    assert run(*arguments, "--skip-existing") == 0 and "1 were there already" in capsys.readouterr().out
    (tmp_path / "out" / "a_1_uncertainty.png").unlink()
    assert run(*arguments, "--skip-existing") == 0 and "restored 1 of 1" in capsys.readouterr().out


def test_of_each_face_the_sample_nearest_in_identity_is_the_result(run, folder, tmp_path, network):
    arguments = (folder / "album" / "b.png", "--samples", 3)
    assert run(*arguments, "--pick", "identity", "--compare", "--uncertainty") == 0
    assert tree(tmp_path / "out") == ["b.png", "b_compare.png", "b_uncertainty.png"]
    assert run(*arguments, output="all") == 0
    picked = read_photo(tmp_path / "out" / "b.png").pixels
    for half in (np.s_[:, :160], np.s_[:, -160:]):
        samples = [read_photo(tmp_path / "all" / f"b_{number}.png").pixels[half] for number in (1, 2, 3)]
        assert sum(np.array_equal(picked[half], sample) for sample in samples) == 1


def test_of_an_aligned_face_the_sample_nearest_in_identity_is_the_result(run, folder, photo, tmp_path, network):
    file = folder / "face.png"
    Image.fromarray(photo[:64, :64]).save(file)
    arguments = (file, "--aligned", "--samples", 3, "--seed", 3)
    assert run(*arguments, "--pick", "identity") == 0 and run(*arguments, output="all") == 0
    samples = [tmp_path / "all" / f"face_{number}.png" for number in (1, 2, 3)]
    distances = [identity_distance(read_image(sample), read_image(file)).item() for sample in samples]
    assert np.argmin(distances) > 0
    assert (tmp_path / "out" / "face.png").read_bytes() == samples[np.argmin(distances)].read_bytes()


@pytest.mark.parametrize("option", [("--uncertainty",), ("--pick", "identity")])
def test_samples_that_are_compared_are_two_at_least(run, folder, option, capsys):
    assert run(folder, *option) == 2
    assert "--uncertainty and --pick compare samples, but --samples is 1" in capsys.readouterr().err


def test_the_missing_extra_is_said_before_the_work(run, folder, monkeypatch, capsys):
    face_metrics.load_identity_network.cache_clear()
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)
    assert run(folder, "--samples", 2, "--uncertainty") == 2
    assert 'pip install "difface-diffusers[metrics]"' in capsys.readouterr().err
