"""The commands of the README and the docs are commands, with options that there are; slowly, they do what they say."""

import argparse
import importlib

import pytest

from difface_diffusers.cli.main import parse

from .pages import PAGES, commands


OTHERS = {  # programs of others, and why these commands are not run here
    "pip": "installs",
    ".venv/bin/pip": "installs",
    ".venv\\Scripts\\pip": "installs",
    "python3": "makes an environment",
    "py": "makes an environment",
    ".venv/bin/difface": "the same as difface",
    ".venv\\Scripts\\difface": "the same as difface",
    "make": "the tests themselves run by it",
    ".ci/run": "runs the tests",
    "accelerate": "starts processes; tests/cli and tests/training run the same",
    "pytest": "runs tests",
    "pre-commit": "needs git's hooks",
    "tensorboard": "serves until it is interrupted",
    "hf": "needs the Hub",
    "cp": "copies into ComfyUI",
    "docker": "needs an engine",
    "export": "sets a variable",
    "curl": "needs a server; tests/demo asks the same of one",
    "npm": "needs the registry",
    "node": "needs a server",
}
MODULES = {  # of this repository, whose options are those of `difface`, or none
    "difface_diffusers.cli",
    "examples.make_comfyui_workflows",
    "examples.make_demo_examples",
}

EVERY = [(page, words) for page in PAGES for words in commands(page)]
OWN = [(page, words) for page, words in EVERY if words[0] == "difface"]
IDS = [f"{page}: {' '.join(words)}" for page, words in OWN]


class Parsed(Exception):
    """A command's options were understood."""


@pytest.fixture
def stop_after_parsing(monkeypatch):
    understand = argparse.ArgumentParser.parse_args

    def parse_args(parser, *arguments, **options):
        understand(parser, *arguments, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def test_there_are_commands():
    assert len(OWN) > 60
    assert {page for page, _ in OWN} >= {"README.md", "docs/start.md", "docs/photographs.md", "docs/training.md"}


@pytest.mark.parametrize(("page", "words"), OWN, ids=IDS)
def test_options_exist(page, words):
    assert parse(words[1:]).run


@pytest.mark.parametrize(("page", "words"), [(page, words) for page, words in EVERY if words[:2] == ["python", "-m"]])
def test_options_of_benchmarks_exist(page, words, stop_after_parsing):
    _, _, module, *arguments = words
    if module in MODULES:
        assert importlib.util.find_spec(module)
        return
    assert module.startswith("benchmarks.")
    with pytest.raises(Parsed):
        importlib.import_module(module).main(arguments)


def test_every_other_command_is_known():
    unknown = {
        " ".join(words)
        for _, words in EVERY
        if words[0] not in OTHERS and words[0] != "difface" and words[:2] != ["python", "-m"] and "=" not in words[0]
    }
    assert not unknown - {"python examples/make_astronaut.py"}
