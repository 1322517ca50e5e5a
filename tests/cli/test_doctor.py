from importlib.metadata import version

import pytest

from difface_diffusers.cli import doctor, main


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "_self_test", lambda: [("self-test", "was left out")])


def examine(capsys):
    status = main(["doctor"])
    return status, {line[:12].strip(): line[12:] for line in capsys.readouterr().out.splitlines()}


def test_says_what_there_is(quick, capsys):
    status, said = examine(capsys)
    assert status == 0
    assert f"torch {version('torch')}" in said["libraries"]
    assert said["package"].startswith("difface-diffusers ")
    assert "float32" in said["processor"] and "threads" in said["processor"]
    assert said["device"] and said["cache"] and said["fetched"]
    assert said["train"] == "there"


def test_says_what_an_extra_lacks(quick, capsys, monkeypatch):
    versions = {"pillow-heif": "0.9", "gradio": None}
    monkeypatch.setattr(doctor, "version_of", lambda name: versions[name] if name in versions else version(name))
    status, said = examine(capsys)
    assert status == 0
    assert said["heif"] == 'lacks pillow-heif<2,>=1.0 (0.9); pip install "difface-diffusers[heif]"'
    assert "gradio<7,>=6.31 (is not installed)" in said["demo"]
    assert {"dev", "docs", "all", "engines"} & set(said) == set()


def test_what_everything_needs_is_a_fault(quick, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "scipy" else version(name))
    status, said = examine(capsys)
    assert status == 1
    assert said["missing"] == "scipy>=1.13 (is not installed): pip install difface-diffusers"
    assert "self-test" not in said


def test_a_copy_that_is_not_installed_is_a_fault(quick, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGE", "difface-of-nobody")
    status, said = examine(capsys)
    assert status == 1
    assert said["package"] == "difface-of-nobody is not installed" and "difface-of-nobody" in said["fault"]


def test_a_failing_restoration_is_a_fault(capsys, monkeypatch):
    def fail():
        raise RuntimeError("no face")
        yield

    monkeypatch.setattr(doctor, "_self_test", fail)
    status, said = examine(capsys)
    assert status == 1 and said["fault"] == "RuntimeError: no face"


def test_restores_a_photograph(capsys):
    status, said = examine(capsys)
    assert status == 0
    assert said["self-test"].startswith("a face was found and restored, in ")
