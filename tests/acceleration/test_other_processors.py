"""What is right and what is refused on processors that this one can pretend to be, each in a process of its own."""

import json
import os

import pytest

from tests import forks
from tests.acceleration.int8_processors import AVX512, needs_its_torch


AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SSE4 = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
WITHOUT_VNNI = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}

PREPARE = """
import copy, json, sys
import torch
from difface_diffusers.acceleration.int8_layers import largest_weight
from difface_diffusers.acceleration.processor import ProcessorError
from tests.acceleration.int8_processors import wide_pipe

pipe = wide_pipe()
faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))

def restore(pipe):
    return pipe(faces, generator=torch.Generator().manual_seed(0), output_type="pt").images.float()

said, expected = {"processor": torch.backends.cpu.get_cpu_capability()}, restore(pipe)
"""
IN_TORCH = """
from difface_diffusers.acceleration.int8 import quantize_int8

for dtype in (torch.bfloat16, torch.float16):
    said[str(dtype)] = (restore(copy.deepcopy(pipe).to(dtype)) - expected).abs().mean().item()
try:
    quantize_int8(pipe, faces)
    said["largest"], said["error"] = largest_weight(), (restore(pipe) - expected).abs().mean().item()
except ProcessorError as error:
    said["refused"] = str(error)
print(json.dumps(said))
"""
IN_OPENVINO = """
import onnxruntime.quantization as quantization
from difface_diffusers.acceleration.runtimes import export_onnx, use_runtime
from difface_diffusers.acceleration.calibration import quantize_graph

networks, quantize = (pipe.unet, pipe.estimator), quantization.quantize_static
for bits, folder in ((7, sys.argv[1] + "/new"), (8, sys.argv[1] + "/of_the_first_release")):
    pipe.unet, pipe.estimator = networks
    export_onnx(pipe, folder)
    if bits == 8:
        quantization.quantize_static = lambda *files, **settings: quantize(*files, **settings | {"reduce_range": False})
    quantize_graph(pipe, folder, faces)
    try:
        use_runtime(pipe, folder, "openvino")
        said[f"error in {bits} bits"] = (restore(pipe) - expected).abs().mean().item()
    except ProcessorError as error:
        said[f"refused {bits} bits"] = str(error)
print(json.dumps(said))
"""

COMPILED = """
from difface_diffusers.acceleration.layouts import to_channels_last

to_channels_last(pipe.estimator)
pipe.estimator.compile_repeated_blocks()
said["error"] = (restore(pipe) - expected).abs().mean().item()
print(json.dumps(said))
"""


def run(script, log, processor, *arguments):
    """Return what a script says on a pretended processor; it prints to the file `log`."""
    environment = os.environ | processor | {"OMP_NUM_THREADS": "1"}
    assert forks.run(PREPARE + script, *arguments, log=log, environment=environment) == 0, log.read_text()
    said = json.loads(log.read_text().splitlines()[-1])
    assert said["processor"].lower() == processor.get("ATEN_CPU_CAPABILITY", said["processor"].lower())
    return said


@needs_its_torch
@pytest.mark.parametrize(
    "processor",
    [pytest.param(AVX2, id="AVX2"), pytest.param(SSE4, id="SSE4", marks=pytest.mark.slow)],  # the same a second time
)
def test_without_wide_vectors_8_bits_are_refused(processor, tmp_path):
    said = run(IN_TORCH, tmp_path / "log.txt", processor)
    assert "8 bits would be counted wrong here, or no faster than float32" in said["refused"]
    assert 0 < said["torch.float16"] < said["torch.bfloat16"] < 0.01


@pytest.mark.skipif(not AVX512, reason="this processor has no AVX-512")
def test_without_vnni_weights_have_7_bits_and_are_right(tmp_path):
    said = run(IN_TORCH, tmp_path / "log.txt", WITHOUT_VNNI)
    assert said["largest"] == 63
    assert 0 < said["error"] < 0.01


@pytest.mark.slow  # the exporter takes half a minute
@pytest.mark.parametrize("processor", [pytest.param({}, id="this"), pytest.param(AVX2, id="AVX2")])
def test_openvino_answers_right_or_not_at_all(processor, tmp_path):
    pytest.importorskip("openvino")
    said = run(IN_OPENVINO, tmp_path / "log.txt", processor, tmp_path)
    assert 0 < said["error in 7 bits"] < 0.01
    if "error in 8 bits" in said:
        assert processor is not AVX2
        assert 0 < said["error in 8 bits"] < 0.01
    else:
        assert "has weights of 8 bits, with which OpenVINO would answer wrong here" in said["refused 8 bits"]


@pytest.mark.slow  # the compiler takes a minute
def test_a_shared_cache_of_compiled_code_changes_no_picture(tmp_path):
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    for number, processor in enumerate(({}, AVX2, {})):
        assert run(COMPILED, tmp_path / f"{number}.txt", processor | cache)["error"] < 1e-5
