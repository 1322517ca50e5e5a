import sys

import pytest

import difface_diffusers.demo
from difface_diffusers.cli import main


@pytest.fixture
def served(monkeypatch):
    """What would be served: the models, the host and the port, and to whom."""
    monkeypatch.delenv("DIFFACE_TOKEN", raising=False)
    served = []
    monkeypatch.setattr(difface_diffusers.demo, "build_demo", lambda *models: models)
    monkeypatch.setattr(difface_diffusers.demo, "launch", lambda demo, *where, **to: served.append((demo, *where, to)))
    return served


def test_serves_the_bundled_models(served, capsys):
    assert main(["demo", "--device", "cpu"]) == 0
    ((restorer, inpainter), host, port, to) = served[0]
    assert restorer.model_size == (256, 256) and inpainter.is_inpainting
    assert host is None and port is None
    assert to == {"api_only": False, "token": None, "calls_per_minute": None}


def test_serves_what_is_named(served, model):
    assert main(["demo", "--model", str(model), "--host", "0.0.0.0", "--port", "8000", "--device", "cpu"]) == 0
    ((restorer, _), host, port, _) = served[0]
    assert restorer.model_size == (32, 32) and (host, port) == ("0.0.0.0", 8000)


def test_models_by_environment(served, model, monkeypatch):
    monkeypatch.setenv("DIFFACE_MODEL", str(model))
    assert main(["demo", "--device", "cpu"]) == 0
    assert served[0][0][0].model_size == (32, 32)


def test_programs_alone_with_a_token_and_a_limit(served, model, monkeypatch):
    monkeypatch.setenv("DIFFACE_TOKEN", "s3:cret")
    assert main(["demo", "--model", str(model), "--device", "cpu", "--api-only", "--calls-per-minute", "9"]) == 0
    assert served[0][3] == {"api_only": True, "token": "s3:cret", "calls_per_minute": 9}


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ("--host 127.0.0.1", None),
        ("--host localhost", None),
        ("--host [::1]", None),
        ("--host 0.0.0.0", 60),
        ("--host ::", 60),
        ("--host example.org", 60),
        ("--host 0.0.0.0 --calls-per-minute 0", None),
        ("--host 0.0.0.0 --calls-per-minute 5", 5),
    ],
)
def test_whoever_else_is_served_has_a_limit(served, model, arguments, limit):
    assert main(["demo", "--model", str(model), "--device", "cpu", *arguments.split()]) == 0
    assert served[0][3]["calls_per_minute"] == limit


def test_a_limit_that_cannot_be(served, capsys):
    assert main(["demo", "--calls-per-minute", "-1"]) == 2
    assert not served
    assert capsys.readouterr().err == "difface demo: --calls-per-minute is -1; it must be at least 0\n"


@pytest.mark.parametrize("token", ["", " ", "two words", "line\n", "schlüssel"])
def test_a_token_that_cannot_be(served, monkeypatch, token, capsys):
    monkeypatch.setenv("DIFFACE_TOKEN", token)
    assert main(["demo"]) == 2
    assert not served
    error = capsys.readouterr().err
    assert error.startswith("difface demo: DIFFACE_TOKEN must be") and not (token.strip() and token in error)


@pytest.mark.parametrize("option", ["--model", "--inpaint-model"])
def test_a_model_that_cannot_be_loaded(served, option, capsys):
    assert main(["demo", option, "nowhere"]) == 2
    assert not served
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("difface demo: ") and "nowhere" in error


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_cannot_be(served, port, capsys):
    assert main(["demo", "--port", port]) == 2
    assert not served
    assert capsys.readouterr().err == f"difface demo: --port is {port}; it must be within 0 .. 65535\n"


def test_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    assert 'pip install "difface-diffusers[demo]"' in capsys.readouterr().err
