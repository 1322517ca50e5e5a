"""What the Dockerfile promises, as it cannot be built everywhere."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from difface_diffusers.cli.demo import DemoOptions
from difface_diffusers.cli.main import parse
from difface_diffusers.demo.serving import HEALTH
from difface_diffusers.utils.records import take


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stages():
    """The instructions of each stage, by their names."""
    text = re.sub(r"\\\n", "", re.sub(r"(?m)^ *#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    stages = []
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        if name == "FROM":
            stages.append({})
        if name:
            stages[-1].setdefault(name, []).append(value)
    return stages


@pytest.fixture(scope="module")
def image(stages):
    """The instructions of what is run."""
    return stages[-1]


def test_it_runs_as_a_user_without_rights(image):
    (user,) = image["USER"]
    assert int(user) > 0
    assert any(f"useradd --create-home --uid {user} " in command for command in image["RUN"])


def test_what_it_runs_is_a_command_of_the_package(image, monkeypatch):
    monkeypatch.delenv("DIFFACE_TOKEN", raising=False)
    (entry,) = json.loads(image["ENTRYPOINT"][0])
    command = json.loads(image["CMD"][0])
    assert entry in PROJECT["project"]["scripts"]
    options = take(DemoOptions, vars(parse(command)))
    assert options.host == "0.0.0.0" and options.limit
    assert image["EXPOSE"] == [str(options.port)]


def test_its_health_is_asked_where_it_is_served(image):
    (check,) = image["HEALTHCHECK"]
    name, _, code = json.loads(check[check.index("[") :])
    port = image["EXPOSE"][0]
    assert name == "python" and f"http://127.0.0.1:{port}{HEALTH}" in code
    compile(code, "HEALTHCHECK", "exec")


def test_it_installs_extras_that_there_are(image):
    (extras,) = re.findall(r"\.whl\)\[(.*?)\]", " ".join(image["RUN"]))
    assert set(extras.split(",")) == {"demo", "heif", "video"} <= set(PROJECT["project"]["optional-dependencies"])


def test_torch_is_chosen_by_the_argument(image):
    assert image["ARG"] == ["DEVICE=cpu"]
    (command,) = [command for command in image["RUN"] if "$DEVICE" in command]
    by_device = dict(re.findall(r"(\w+)\) (pip install .*?) ;;", command))
    assert "/whl/cpu torch" in by_device["cpu"] and "index" not in by_device["cuda"]
    assert all("--constraint /constraints.txt" in line for line in by_device.values())


def test_the_versions_are_those_of_the_tests_and_their_python(stages):
    python = re.search(r"Python (\d\.\d+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))[1]
    assert all(stage["FROM"][0].startswith(f"python:{python}-slim") for stage in stages)


def test_models_are_kept_in_a_volume(image):
    (volume,) = image["VOLUME"]
    assert re.search(r"HF_HOME=(\S+)", image["ENV"][0])[1] == volume


def test_all_that_the_wheel_is_built_from_is_sent_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert "*" in lines and sent == {*wheel, "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
