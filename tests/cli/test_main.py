import inspect
import pkgutil
import warnings
from argparse import Namespace
from importlib import import_module
from importlib.metadata import version

import pytest

import difface_diffusers.cli
from difface_diffusers.cli import main, restore


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert all(f"\n    {command} " in output for command in ("restore", "train", "degrade", "evaluate", "info"))


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"difface {version('difface-diffusers')}\n"


@pytest.mark.parametrize("arguments", [[], ["mend"], ["restore"], ["restore", "face.png"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: difface" in capsys.readouterr().err


def test_interruption_is_no_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(restore, "run", interrupted)
    assert main(["restore", "face.png", "-o", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_warning_is_a_sentence_without_a_line_of_code(monkeypatch, tmp_path, capsys):
    before = warnings.formatwarning
    monkeypatch.setattr(
        restore, "run", lambda args: print(warnings.formatwarning("no face in it", UserWarning, "file.py", 7))
    )
    main(["restore", "face.png", "-o", str(tmp_path)])
    assert capsys.readouterr().out == "difface: no face in it\n\n"
    assert warnings.formatwarning is before


def test_nothing_below_the_door_of_a_command_sees_its_arguments():
    seeing = []
    for entry in pkgutil.iter_modules(difface_diffusers.cli.__path__):
        if entry.name != "__main__":
            module = import_module(f"difface_diffusers.cli.{entry.name}")
            functions = inspect.getmembers(module, inspect.isfunction)
            seeing += [name for name, function in functions if Namespace in inspect.get_annotations(function).values()]
    assert len(seeing) >= 8 and set(seeing) == {"run", "parse"}
