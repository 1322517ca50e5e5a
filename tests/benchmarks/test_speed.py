import json
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from benchmarks import speed
from difface_diffusers import DifFacePipeline, SwinIREstimator
from difface_diffusers.acceleration.processor import ProcessorError
from tests.acceleration.int8_processors import needs_int8
from tests.conftest import SIZE


CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(speed, "MATRIX_SIDE", {"cpu": 64})


@pytest.fixture
def pipe(model):
    return DifFacePipeline.from_pretrained(model)


# Parts


def test_a_timing_is_the_median_after_the_warm_up(monkeypatch):
    clock, calls = iter([0, 1, 10, 15, 20, 22, 30, 31, 40, 43]), []
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert speed.time_runs(lambda: calls.append(None), CPU) == speed.Timing(median=2, fastest=1, slowest=5)
    assert len(calls) == speed.WARM_UPS + speed.REPEATS == 7
    assert f"{speed.Timing(0.12345, 0.1, 0.2)}" == "0.123 (0.100 to 0.200)"


def test_the_peak_counts_two_operations_per_product(monkeypatch):
    monkeypatch.setattr(speed, "time_runs", lambda run, device: speed.Timing(3.0, 2.0, 4.0))
    assert speed.measure_peak(torch.float32, CPU) == 64**3


def test_operations_grow_with_the_batch(pipe):
    one, two = (speed.count_operations(pipe, torch.rand(count, 3, SIZE, SIZE)) for count in (1, 2))
    assert one > 2 * 9 * 3 * 8 * SIZE**2  # the first convolution alone
    assert 1.9 * one < two <= 2 * one


@pytest.mark.skipif(not speed.CLEAR.exists(), reason="only Linux tells")
def test_memory_is_what_a_run_holds_beyond_what_was_there():
    kept = torch.ones(50_000_000 // 4)
    held = speed.measure_memory(lambda: torch.ones(200_000_000 // 4).sum(), CPU)
    assert 150e6 < held < 260e6
    assert speed.measure_memory(lambda: kept.sum(), CPU) < 50e6


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[needs_int8] if variant.int8 else [])
        for name, variant in speed.VARIANTS.items()
        if not variant.runtime
    ],
)
def test_variants_change_a_copy(pipe, tmp_path, name):
    variant = speed.VARIANTS[name]
    prepared = speed.prepare(pipe, variant, tmp_path, torch.rand(1, 3, SIZE, SIZE))
    for network in (prepared.unet, prepared.estimator):
        assert network.dtype is variant.dtype
        assert (network._compiled_call_impl is not None) is variant.compiled
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    assert prepared.unet.conv_in.weight.is_contiguous(memory_format=layout)
    assert pipe.unet.dtype is torch.float32 and pipe.unet.conv_in.weight.is_contiguous()


def test_a_swinir_is_compiled_block_by_block(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traces, but compiles no code
    estimator = SwinIREstimator(embed_dim=8, depths=(2,), num_heads=(2,), scale=2, window_size=4, num_feat=8)
    pipe.register_modules(estimator=estimator)
    variant = speed.VARIANTS["float32, channels_last, compiled"]
    prepared = speed.prepare(pipe, variant, tmp_path, torch.rand(1, 3, SIZE, SIZE)).estimator
    compiled = [module for module in prepared.modules() if module._compiled_call_impl is not None]
    assert [type(module).__name__ for module in compiled] == ["SwinBlock", "SwinBlock"]
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(prepared(image), estimator(image))


def test_the_official_architecture_is_the_converted_one():
    with torch.device("meta"):
        pipe = speed.official_pipeline()
    assert pipe.model_size == (512, 512) and pipe.unet.config.out_channels == 6
    assert round(sum(parameter.numel() for parameter in pipe.unet.parameters()) / 1e6) == 160
    assert len(pipe.estimator.config.depths) == 8


# Report


def test_each_variant_is_measured_and_compared(pipe):
    figures = speed.report(pipe, "name", ["bfloat16"], batch_size=2, device=CPU)
    assert list(figures.rows) == ["float32", "bfloat16"]
    baseline, half = figures.rows.values()
    assert baseline.prior_error == baseline.picture_error == 0
    assert 1e-4 < half.prior_error < 0.1 and 1e-6 < half.picture_error < 0.05
    assert baseline.restoration.median > baseline.prior.median > 0
    assert (figures.size, figures.batch_size, figures.threads) == (SIZE, 2, torch.get_num_threads())
    assert figures.settings["default_num_inference_steps"] == 2


@pytest.mark.slow  # see tests/acceleration/test_runtimes.py
def test_runtimes_run_what_is_exported_once(pipe, monkeypatch):
    for module in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    exports = []
    monkeypatch.setattr(speed, "export_onnx", lambda *arguments: exports.append(export(*arguments)))
    figures = speed.report(pipe, "name", ["ONNX Runtime", "OpenVINO"], batch_size=1, device=CPU)
    assert len(exports) == 1
    assert all(row.picture_error < 1e-4 and row.prior_error < 1e-4 for row in figures.rows.values())


export = speed.export_onnx


def test_markdown_compares_with_the_first():
    timing, faster = speed.Timing(1.0, 0.9, 1.1), speed.Timing(0.25, 0.2, 0.3)
    rows = {
        "float32": speed.SpeedRow(timing, timing, timing, 0.5, 123_400_000, 0, 0),
        "fast": speed.SpeedRow(timing, faster, timing, 0.25, None, 0.0123, 0.00456),
    }
    settings = {"default_num_inference_steps": 20, "default_start_timestep": 200}
    figures = speed.SpeedReport("m", "a processor", 2, 4, 128, settings, 5_000_000_000, rows)
    table, _, note = figures.markdown().partition("\n\n")
    timing = "1.000 (0.900 to 1.100)"
    assert table.splitlines()[2:] == [
        f"| float32 | {timing} | {timing} | 1.00 | 50% | {timing} | 123 | 0 | 0 |",
        f"| fast | {timing} | 0.250 (0.200 to 0.300) | 0.25 | 25% | {timing} |  | 0.012 | 0.0046 |",
    ]
    assert note.startswith(
        "4 faces of 128 x 128 pixels at once, 20 calls from t = 200; a processor, 2 threads; 5 GFLOP"
    )


# The command


def test_main_writes_table_and_json(model, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    arguments = ["--model", model, "--output", output, "--variants", "bfloat16", "--batch-size", 1, "--steps", 3]
    assert speed.main([str(argument) for argument in arguments]) == 0
    table = (output / "speed.md").read_text()
    assert table in capsys.readouterr().out and "3 calls from t = 400" in table
    figures = json.loads((output / "speed.json").read_text())
    assert list(figures["rows"]) == ["float32", "bfloat16"] and figures["settings"]["default_eta"] == 0.5


def test_refuses_no_faces(capsys, tmp_path):
    with pytest.raises(SystemExit):
        speed.main(["--output", str(tmp_path), "--batch-size", "0"])
    assert "--batch-size must be at least 1, got 0" in capsys.readouterr().err


def test_refuses_on_a_gpu_what_only_a_cpu_has(capsys, tmp_path):
    with pytest.raises(SystemExit):
        speed.main(["--output", str(tmp_path), "--device", "cuda", "--variants", "bfloat16", "OpenVINO"])
    assert "--variants OpenVINO: on the CPU only, but --device is cuda" in capsys.readouterr().err


def test_a_gpu_has_all_but_engines_integers_and_kept_memory():
    gpu = [name for name, variant in speed.VARIANTS.items() if variant.refusal(torch.device("cuda")) is None]
    assert all(not re.search(r"8 bits|OpenVINO|ONNX|memory kept", name) for name in gpu) and len(gpu) == 7


@pytest.mark.parametrize("right", [True, False])
def test_a_processor_that_counts_bytes_wrong_has_all_but_torchs_integers(monkeypatch, right):
    def largest_weight():
        if not right:
            raise ProcessorError("wrong here")

    monkeypatch.setattr(speed, "largest_weight", largest_weight)
    refused = {name: variant.refusal(torch.device("cpu")) for name, variant in speed.VARIANTS.items()}
    expected = {name: None if right or not name.startswith("8 bits") else "wrong here" for name in refused}
    assert refused == expected


def test_another_torch_has_all_but_torchs_integers(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    refused = {name: variant.refusal(torch.device("cpu")) for name, variant in speed.VARIANTS.items()}
    assert all((reason is not None) == name.startswith("8 bits") for name, reason in refused.items())
    assert "installed is torch 2.99.0" in refused["8 bits, float32, compiled"]
