import sys

import pytest

import difface_diffusers.demo
from difface_diffusers.cli import main


@pytest.fixture
def served(monkeypatch):
    """What would be served: the models, the host and the port."""
    served = []
    monkeypatch.setattr(difface_diffusers.demo, "build_demo", lambda *models: models)
    monkeypatch.setattr(difface_diffusers.demo, "launch", lambda demo, *where: served.append((demo, *where)))
    return served


def test_serves_the_bundled_models(served, capsys):
    assert main(["demo", "--device", "cpu"]) == 0
    ((restorer, inpainter), host, port) = served[0]
    assert restorer.model_size == (128, 128) and inpainter.is_inpainting
    assert host is None and port is None


def test_serves_what_is_named(served, model):
    assert main(["demo", "--model", str(model), "--host", "0.0.0.0", "--port", "8000", "--device", "cpu"]) == 0
    ((restorer, _), host, port) = served[0]
    assert restorer.model_size == (32, 32) and (host, port) == ("0.0.0.0", 8000)


def test_models_by_environment(served, model, monkeypatch):
    monkeypatch.setenv("DIFFACE_MODEL", str(model))
    assert main(["demo", "--device", "cpu"]) == 0
    assert served[0][0][0].model_size == (32, 32)


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
