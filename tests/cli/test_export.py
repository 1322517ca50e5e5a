import sys

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli import main
from tests.conftest import SIZE


pytest.importorskip("onnxscript")


@pytest.fixture
def face(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def restore(face, model, output, *options):
    return main(["restore", str(face), "--aligned", "--model", str(model), "-o", str(output), *options])


@pytest.mark.slow  # see tests/acceleration/test_runtimes.py
def test_what_is_exported_is_restored_with(model, face, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    exported = tmp_path / "deep" / "exported"
    assert main(["export", "--model", str(model), "-o", str(exported)]) == 0
    assert f"{exported}: a copy of {model} with graphs" in capsys.readouterr().out
    assert [path.name for path in exported.parent.iterdir()] == ["exported"]
    assert restore(face, model, tmp_path / "torch.png") == 0
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        assert restore(face, exported, tmp_path / f"{runtime}.png", "--runtime", runtime) == 0
        answers = [np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("torch", runtime)]
        assert np.abs(answers[0] - answers[1]).max() <= 1


@pytest.mark.slow  # see tests/acceleration/test_runtimes.py
def test_in_8_bits(model, face, tmp_path, capsys):
    pytest.importorskip("openvino")
    assert main(["export", "--model", str(model), "-o", str(tmp_path / "out"), "--int8", str(face)]) == 0
    assert "with graphs for --runtime openvino, in 8 bits" in capsys.readouterr().out
    assert main(["export", "--model", str(model), "-o", str(tmp_path / "floats")]) == 0
    answers = []
    for exported in ("out", "floats"):
        assert restore(face, tmp_path / exported, tmp_path / f"{exported}.png", "--runtime", "openvino") == 0
        answers.append(np.asarray(Image.open(tmp_path / f"{exported}.png")).astype(int))
    assert 0 < np.abs(answers[0] - answers[1]).mean() < 3


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_faces_that_cannot_be_read(model, tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "face.png").write_bytes(content)
    assert (
        main(["export", "--model", str(model), "-o", str(tmp_path / "out"), "--int8", str(tmp_path / "face.png")]) == 2
    )
    assert f"--int8{':' if content else ''} {tmp_path / 'face.png'}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", "--model", str(model), "-o", str(tmp_path / "new" / "out")]) == 2
    assert "difface export: Export needs `onnxscript`" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())


def test_refuses_to_overwrite(model, tmp_path, capsys):
    assert main(["export", "--model", str(model), "-o", str(model)]) == 2
    assert f"--output: `output` is {model}, which exists" in capsys.readouterr().err


def test_refuses_a_model_that_is_none(tmp_path, capsys):
    assert main(["export", "--model", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert f"--model {tmp_path} cannot be loaded" in capsys.readouterr().err


def test_an_engine_needs_graphs(model, face, tmp_path, capsys):
    assert restore(face, model, tmp_path / "out.png", "--runtime", "onnxruntime") == 2
    assert "--runtime onnxruntime: `folder` is" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runtime", "onnxruntime"], "--runtime onnxruntime needs --model, a folder that `difface export` wrote"),
        (
            ["--runtime", "openvino", "--model", "m", "--device", "cuda"],
            "--device is cuda; --runtime openvino runs on",
        ),
        (["--runtime", "onnxruntime", "--model", "m", "--dtype", "bfloat16"], "onnxruntime takes torch.float32"),
    ],
)
def test_refuses_what_an_engine_cannot_do(face, tmp_path, capsys, model, options, message):
    options = [str(model) if option == "m" else option for option in options]
    assert main(["restore", str(face), "--aligned", "-o", str(tmp_path / "out.png"), *options]) == 2
    assert message in capsys.readouterr().err
