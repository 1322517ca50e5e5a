import json
from pathlib import Path

import pytest
import torch

from benchmarks import groups
from benchmarks.faces import degrade_faces, load_named_faces, restore
from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import identity_distance
from tests.conftest import SIZE


def write_people(path, names):
    ages = ["child", "adult", ""]
    rows = [f"{name},{ages[row % 3]}" for row, name in enumerate(names)]
    path.write_text("name,age\n" + "\n".join(rows) + "\n")
    return path


def test_a_group_is_a_value_of_a_column(tmp_path):
    names, people = groups.read_people(write_people(tmp_path / "people.csv", "abcde"))
    assert names == list("abcde")
    assert people == {"everybody": [0, 1, 2, 3, 4], "age: adult": [1, 4], "age: child": [0, 3]}


def test_everybody_of_the_validation_faces_is_in_a_group_of_each_kind():
    names, people = groups.read_people(groups.PEOPLE)
    assert len(names) == len(set(names)) == 60
    for kind in ("age", "skin", "eyes"):
        members = [index for group, chosen in people.items() if group.startswith(kind) for index in chosen]
        assert sorted(members) == list(range(60))


def test_the_gain_is_that_of_the_members():
    figures = {
        "identity_input": torch.tensor([0.5, 0.6, 0.9]),
        "identity_restored": torch.tensor([0.4, 0.7, 0.5]),
        "psnr_input": torch.tensor([20.0, 30, 40]),
    }
    row = groups.row_of(figures, [0, 2])
    assert row["faces"] == 2 and row["psnr_input"] == 30
    assert row["identity_gain"] == pytest.approx(0.25) and row["identity_error"] == pytest.approx(0.15, rel=1e-4)


def test_main_writes_a_row_a_group(model, data, tmp_path, capsys):
    names = sorted(path.stem for path in Path(data).glob("*.png"))
    people = write_people(tmp_path / "people.csv", names)
    command = ["--model", model, "--data", data, "--output", tmp_path / "out", "--people", people, "--seeds", 2]
    assert groups.main([str(argument) for argument in command]) == 0
    report = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert list(report["rows"]) == list(groups.read_people(people)[1])
    assert (tmp_path / "out" / "groups.md").read_text() in capsys.readouterr().out

    clean = load_named_faces(Path(data), SIZE, names)
    pipe = DifFacePipeline.from_pretrained(model)
    distances = []
    for seed in range(2):
        restored, _ = restore(pipe, degrade_faces(clean, seed), 8)
        distances.append(identity_distance(restored, clean).mean().item())
    assert report["rows"]["everybody"]["identity_restored"] == pytest.approx(sum(distances) / 2)


@pytest.mark.parametrize(
    ("people", "options", "message"),
    [
        ("name,age\n", [], "must be a table"),
        ("face,age\na,child\n", [], "must be a table"),
        ("name,age\nnobody,child\n", [], "lacks 1 of 1 faces, such as nobody"),
        ("name,age\na,child\n", ["--seeds", "0"], "--seeds must be at least 1, got 0"),
    ],
)
def test_what_is_refused(model, data, tmp_path, capsys, people, options, message):
    (tmp_path / "people.csv").write_text(people)
    command = ["--model", model, "--data", data, "--output", tmp_path / "out", "--people", tmp_path / "people.csv"]
    with pytest.raises(SystemExit, match="2"):
        groups.main([str(argument) for argument in command] + options)
    assert message in capsys.readouterr().err
