import csv

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli import main
from difface_diffusers.degradation import test_sets as degraded_sets
from difface_diffusers.degradation.wear import PARAMETERS
from tests.training.tiny import face, write_yaml


@pytest.fixture
def folder(tmp_path):
    """Three faces, written in another order than that of their names, and a file that is none."""
    (tmp_path / "faces").mkdir()
    for name, seed in (("c.png", 3), ("a.png", 1), ("b.jpg", 2)):
        Image.fromarray(face(seed, 48, 48)).save(tmp_path / "faces" / name, quality=95)
    (tmp_path / "faces" / "notes.txt").write_text("no face")
    return tmp_path / "faces"


@pytest.fixture
def run(folder, tmp_path):
    def run(protocol, *arguments, output="out"):
        command = ["degrade", "--protocol", protocol, "--input", str(folder), "-o", str(tmp_path / output)]
        return main([*command, *map(str, arguments)])

    return run


@pytest.fixture
def short(monkeypatch):
    """The paper's grid with two scales and two angles: 400 faces; and three holes of each kind."""
    monkeypatch.setattr(degraded_sets, "SCALES", (4, 40))
    monkeypatch.setattr(degraded_sets, "ANGLES", (0.0, 0.5))
    monkeypatch.setattr(degraded_sets, "FACES_PER_MASK", 3)


def rows(folder):
    with (folder / "parameters.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_papers_set_goes_round_the_faces_and_repeats(run, short, tmp_path, capsys):
    assert run("celeba-test", "--size", 32) == 0
    table = rows(tmp_path / "out")
    assert [row["file"] for row in table[:4]] == ["0000_a.png", "0001_b.png", "0002_c.png", "0003_a.png"]
    assert [row["source"] for row in table[:3]] == ["a.png", "b.jpg", "c.png"]
    assert [(row["jpeg_quality"], row["scale"], row["sigma_x"], row["angle"]) for row in table[:3]] == [
        ("30", "1.0", "0.25", "0.0"), ("30", "1.0", "0.25", "0.5"), ("30", "1.0", "0.5", "0.0")
    ]  # fmt: skip
    assert len(table) == 400 and sum(row["scale"] == "2.5" for row in table) == 200
    assert "degraded 400 of 400" in capsys.readouterr().out
    for kind in ("lq", "hq"):
        assert sorted(path.name for path in (tmp_path / "out" / kind).iterdir()) == [row["file"] for row in table]
    assert Image.open(tmp_path / "out" / "hq" / "0001_b.png").size == (32, 32)
    assert run("celeba-test", "--size", 32, output="again") == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_holes_come_with_their_masks(run, short, tmp_path):
    assert run("celeba-inpaint", "--size", 32) == 0
    table = rows(tmp_path / "out")
    assert [row["mask"] for row in table[::3]] == ["box", "irregular", "expand", "half"]
    for row in table:
        mask, lq, hq = (np.asarray(Image.open(tmp_path / "out" / kind / row["file"])) for kind in ("mask", "lq", "hq"))
        assert set(np.unique(mask)) == {0, 255}
        assert not lq[mask == 255].any()
        np.testing.assert_array_equal(lq[mask == 0], hq[mask == 0])


def test_blind_takes_each_face_once(run, tmp_path):
    assert run("blind", "--size", 32, "--seed", 5) == 0 and run("blind", "--size", 32, output="other") == 0
    table = rows(tmp_path / "out")
    assert [row["source"] for row in table] == ["a.png", "b.jpg", "c.png"]
    assert table[0]["sigma_x"] != rows(tmp_path / "other")[0]["sigma_x"]


def test_a_bad_face_changes_no_other(run, folder, tmp_path, capsys):
    assert run("blind", "--size", 32, output="whole") == 0
    (folder / "a.png").write_bytes(b"no image")
    assert run("blind", "--size", 32) == 1
    assert [row["file"] for row in rows(tmp_path / "out")] == ["0001_b.png", "0002_c.png"]
    whole = tree(tmp_path / "whole")
    assert all(content == whole[path] for path, content in tree(tmp_path / "out").items() if path.suffix == ".png")
    assert "degraded 2 of 3" in (output := capsys.readouterr()).out and "a.png" in output.err


def test_faces_that_are_not_square_fail_and_leave_nothing(run, folder, tmp_path, capsys):
    for path in folder.iterdir():
        path.unlink()
    Image.fromarray(face(0, 40, 32)).save(folder / "wide.png")
    assert run("blind") == 2
    assert "wide.png: it is 32 x 40 pixels; aligned faces are square" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blind", "--size", 31), "--size is 31; it must be at least 32"),
        (("celeba-test", "--seed", 1), "--seed is for --protocol blind; celeba-test has its own"),
        (("blind", "--seed", -1), "--seed is -1; it must be at least 0"),
        (("blind", "--input", "nowhere"), "--input nowhere is not a folder"),
    ],
)
def test_wrong_usage(run, arguments, message, capsys):
    assert run(*arguments) == 2
    assert f"difface degrade: {message}" in capsys.readouterr().err


def test_an_output_that_is_there_is_left(run, folder, tmp_path, capsys):
    assert run("blind", "-o", folder) == 2
    assert "must be a new or an empty folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("blind", "--input", tmp_path / "empty") == 2
    assert "holds no image" in capsys.readouterr().err


def test_a_blind_set_over_the_ranges_of_a_training(run, tmp_path, capsys):
    assert run("blind", "--size", 48, "--config", "halftone_estimator") == 0
    assert all(10 * 48 / 512 <= float(row["halftone_pitch"]) <= 24 * 48 / 512 for row in rows(tmp_path / "out"))
    assert run("blind", "--size", 48, output="plain") == 0
    assert all(float(row["halftone_pitch"]) == 0 for row in rows(tmp_path / "plain"))
    assert run("blind", "--config", "nowhere.yaml", output="none") == 2
    assert "--config: " in capsys.readouterr().err
    assert run("celeba-test", "--config", "halftone_estimator", output="none") == 2
    assert "--config is for --protocol blind" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_blind_set_of_worn_faces(run, tmp_path):
    """Monochrome prints are so on both sides, and the table says what befell each face."""
    weights = {name: int(name == "monochrome") for name in PARAMETERS}
    values = {"degradation": {"wear_probability": 1, "wear": {"ink": [0, 0], "weights": weights}}}
    config = write_yaml(tmp_path / "worn.yaml", values)
    assert run("blind", "--size", 48, "--config", config) == 0
    assert [row["wear_monochrome"] for row in rows(tmp_path / "out")] == ["True"] * 3
    for path in (tmp_path / "out").glob("*q/*.png"):
        pixels = np.asarray(Image.open(path)).astype(int)
        assert np.ptp(pixels, axis=-1).max() == 0
    assert run("blind", "--size", 48, output="plain") == 0
    assert not any(name.startswith("wear") for name in rows(tmp_path / "plain")[0])
