import sys

import numpy as np
import pytest
import torch

from difface_diffusers import DifFacePipeline, DifFaceUNet2DModel
from difface_diffusers.acceleration.calibration import quantize_graph, record_calls
from difface_diffusers.acceleration.runtimes import GRAPH, export_onnx, use_runtime
from tests.conftest import ddim, tiny_estimator, tiny_unet


@pytest.fixture
def pipe():
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_what_the_prior_is_called_with(pipe, faces):
    calls = record_calls(pipe, faces)
    assert [call["timestep"].tolist() for call in calls] == 2 * [[300.0], [200.0], [100.0], [0.0]]
    assert all(call["sample"].shape == (1, *faces.shape[1:]) for call in calls)
    assert not pipe.unet._forward_pre_hooks
    pipe(faces[:1], generator=torch.Generator().manual_seed(0))
    assert len(calls) == 8
    other = record_calls(pipe, faces[1:])
    assert np.abs(other[0]["sample"] - calls[4]["sample"]).max() > 0.1  # another seed


def test_there_must_be_a_graph(pipe, faces, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(FileNotFoundError, match=rf"`folder` is {tmp_path}, which has no unet/{GRAPH}"):
        quantize_graph(pipe, tmp_path, faces)


def test_without_the_extra(pipe, faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(
        ImportError, match=r"Quantization needs `onnxruntime.quantization`.*difface-diffusers\[runtimes\]"
    ):
        quantize_graph(pipe, tmp_path, faces)


@pytest.mark.slow  # see tests/acceleration/test_runtimes.py
@pytest.mark.parametrize("patch_size", [1, 2])
def test_convolutions_of_integers_restore_nearly_as_floats_do(pipe, faces, patch_size, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    pipe.register_modules(unet=tiny_unet(cls=DifFaceUNet2DModel, patch_size=patch_size))
    export_onnx(pipe, tmp_path)
    floats = (tmp_path / "unet" / GRAPH).stat().st_size
    quantize_graph(pipe, tmp_path, faces)
    assert [path.name for path in (tmp_path / "unet").iterdir()] == [GRAPH]
    assert (tmp_path / "unet" / GRAPH).stat().st_size < floats

    graph = onnx.load(tmp_path / "unet" / GRAPH).graph
    makers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        assert {makers[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}
    taken = {makers[node.input[0]].input[0] for node in convolutions}
    made = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.output}
    assert made == taken  # nothing is rounded but what a convolution takes

    arguments = {"output_type": "pt", "generator": torch.Generator().manual_seed(0)}
    expected = pipe(faces[:1], **arguments).images
    use_runtime(pipe, tmp_path, "openvino")
    answer = pipe(faces[:1], **arguments | {"generator": torch.Generator().manual_seed(0)}).images
    assert 0 < (answer - expected).abs().mean() < 0.01
