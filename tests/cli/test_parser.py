import argparse
import shlex

import pytest

from difface_diffusers.cli.main import parse
from difface_diffusers.cli.parser import HEADING


def help_of(capsys, *command):
    with pytest.raises(SystemExit, match="0"):
        parse([*command, "--help"])
    return capsys.readouterr().out


def refusal_of(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    return capsys.readouterr().err


COMMANDS = "restore inpaint video train degrade evaluate info export convert models demo doctor".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_examples_that_are_commands(command, capsys):
    examples = help_of(capsys, command).partition(HEADING)[2].strip().splitlines()
    assert examples
    for example in examples:
        name, *words = shlex.split(example)
        assert name == "difface" and parse(words).command == command


def test_the_help_of_all_has_examples(capsys):
    text = help_of(capsys)
    assert HEADING in text
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["restor", "photo.jpg"], "restore"),
        (["restore", "photo.jpg", "-o", "out", "--scedular", "ddim"], "--scheduler"),
        (["restore", "photo.jpg", "-o", "out", "--scheduler", "dim"], "ddim"),
        (["video", "in.mp4", "-o", "out.mp4", "--presett", "fast"], "--preset"),
        (["train", "estimater", "--config", "a", "--data", "b", "--output", "c"], "estimator"),
        (["convert", "restauration", "--download", "-o", "out"], "restoration"),
    ],
)
def test_what_was_meant_is_guessed(words, meant, capsys):
    assert f"did you mean {meant}?" in refusal_of(capsys, *words)


def test_nothing_is_guessed_where_nothing_is_near(capsys):
    assert "did you mean" not in refusal_of(capsys, "restore", "photo.jpg", "-o", "out", "--xyzzy")
    assert "did you mean" not in refusal_of(capsys, "restore", "photo.jpg")  # lacks --output


def test_what_is_left_over_is_refused_by_the_command_itself(capsys):
    assert "usage: difface restore" in refusal_of(capsys, "restore", "photo.jpg", "-o", "out", "--xyzzy")


def test_parsers_are_argparse_parsers():
    assert isinstance(parse(["info"]), argparse.Namespace)
