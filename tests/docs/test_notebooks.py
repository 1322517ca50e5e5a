"""The notebooks run from top to bottom, and hold no answers of another run."""

import json

import pytest

from .pages import ROOT


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(notebook):
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["restore", "tune_on_an_album"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_holds_no_answers(notebook):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(notebook))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_runs_from_top_to_bottom(notebook, monkeypatch, tmp_path):
    monkeypatch.chdir(notebook.parent)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scope = {}
    for number, cell in enumerate(cells(notebook)):
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), scope)
