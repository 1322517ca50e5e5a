import json
import re
from dataclasses import replace
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


@pytest.mark.parametrize(
    ("name", "parts"), [("compiled", ["SwinBlock", "SwinBlock"]), ("compiled whole", ["SwinIREstimator"])]
)
def test_a_swinir_is_compiled_block_by_block_or_whole(pipe, tmp_path, monkeypatch, name, parts):
    compile_, modes = torch.compile, []

    def trace(model, mode=None, **options):  # but compile no code
        modes.append(mode)
        return compile_(model, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", trace)
    estimator = SwinIREstimator(embed_dim=8, depths=(2,), num_heads=(2,), scale=2, window_size=4, num_feat=8)
    pipe.register_modules(estimator=estimator)
    variant = replace(speed.VARIANTS[f"bfloat16, channels_last, {name}"], dtype=torch.float32)
    prepared = speed.prepare(pipe, variant, tmp_path, torch.rand(1, 3, SIZE, SIZE)).estimator
    compiled = [module for module in prepared.modules() if module._compiled_call_impl is not None]
    assert [type(module).__name__ for module in compiled] == parts
    assert modes == ["reduce-overhead", "reduce-overhead" if variant.whole else None, *[None] * (len(parts) - 1)]
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
    assert list(baseline.restoration) == [2]  # the pipeline's default
    assert baseline.restoration[2].median > baseline.prior.median > 0
    assert (figures.size, figures.batch_size, figures.threads) == (SIZE, 2, torch.get_num_threads())
    assert figures.settings["default_num_inference_steps"] == 2


def test_restorations_of_several_lengths_are_measured(pipe, monkeypatch):
    monkeypatch.setattr(speed, "REPEATS", 1)
    figures = speed.report(pipe, "name", [], batch_size=1, device=CPU, steps=[2, 12])
    restoration = figures.rows["float32"].restoration
    assert list(restoration) == [2, 12] and restoration[12].median > restoration[2].median
    assert "| restoration, 2 calls (s) | restoration, 12 calls (s) |" in figures.markdown()


def test_each_batch_size_is_compiled_for_itself(pipe, tmp_path, monkeypatch):
    """Or the second one's networks would be compiled for batches of any size."""
    given = []

    def look(graph, inputs, **options):
        given.extend(inputs)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=look))
    for batch_size in (2, 3):
        faces = torch.rand(batch_size, 3, SIZE, SIZE)
        variant = speed.VARIANTS["float32, channels_last, compiled"]
        with torch.no_grad():
            speed.prepare(pipe, variant, tmp_path, faces).estimator(faces)
    assert given and all(isinstance(entry, torch.Tensor) for entry in given)  # and no number that is the batch's size


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
        "float32": speed.SpeedRow(timing, timing, {2: faster, 6: timing}, 0.5, 123_400_000, 0, 0),
        "fast": speed.SpeedRow(timing, faster, {2: faster, 6: timing}, 0.25, None, 0.0123, 0.00456),
    }
    settings = {"default_num_inference_steps": 20, "default_start_timestep": 200}
    figures = speed.SpeedReport("m", "a processor", 2, 4, 128, settings, 5_000_000_000, rows)
    table, _, note = figures.markdown().partition("\n\n")
    timing, faster = "1.000 (0.900 to 1.100)", "0.250 (0.200 to 0.300)"
    head, rule, *rows = table.splitlines()
    assert "| restoration, 2 calls (s) | restoration, 6 calls (s) |" in head and head.count("|") == rule.count("|")
    assert rows == [
        f"| float32 | {timing} | {timing} | 1.00 | 50% | {faster} | {timing} | 123 | 0 | 0 |",
        f"| fast | {timing} | {faster} | 0.25 | 25% | {faster} | {timing} |  | 0.012 | 0.0046 |",
    ]
    assert note.startswith("4 faces of 128 x 128 pixels at once, from t = 200; a processor, 2 threads; 5 GFLOP")


# The command


def test_main_writes_table_and_json(model, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    arguments = ["--model", model, "--output", output, "--variants", "bfloat16", "--batch-size", 1, "--steps", 3]
    assert speed.main([str(argument) for argument in arguments]) == 0
    table = (output / "speed.md").read_text()
    assert table in capsys.readouterr().out and "restoration, 3 calls (s)" in table and "from t = 400" in table
    figures = json.loads((output / "speed.json").read_text())
    assert list(figures["rows"]) == ["float32", "bfloat16"] and figures["settings"]["default_eta"] == 0.5


def test_main_measures_several_sizes_and_lengths(model, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "REPEATS", 1)
    arguments = ["--model", str(model), "--output", str(tmp_path), "--batch-size", "1", "2", "--steps", "2", "3"]
    speed.main([*arguments, "--start", "100", "--variants", "float32"])
    for batch_size in (1, 2):
        figures = json.loads((tmp_path / str(batch_size) / "speed.json").read_text())
        assert figures["batch_size"] == batch_size and figures["settings"]["default_start_timestep"] == 100
        assert all(list(row["restoration"]) == ["2", "3"] for row in figures["rows"].values())


@pytest.mark.parametrize("option", ["--batch-size", "--steps"])
def test_refuses_no_faces_and_no_steps(capsys, tmp_path, option):
    with pytest.raises(SystemExit):
        speed.main(["--output", str(tmp_path), option, "1", "0"])
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err


def test_refuses_on_a_gpu_what_only_a_cpu_has(capsys, tmp_path):
    with pytest.raises(SystemExit):
        speed.main(["--output", str(tmp_path), "--device", "cuda", "--variants", "bfloat16", "OpenVINO"])
    assert "--variants OpenVINO: on the CPU only, but --device is cuda" in capsys.readouterr().err


def test_a_gpu_has_all_but_engines_integers_and_kept_memory():
    gpu = [name for name, variant in speed.VARIANTS.items() if variant.refusal(torch.device("cuda")) is None]
    assert all(not re.search(r"8 bits|OpenVINO|ONNX|memory kept", name) for name in gpu) and len(gpu) == 9


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
