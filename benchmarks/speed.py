"""How fast a pipeline is, by precision, memory layout, compiler and runtime: its networks and whole restorations.

    python -m benchmarks.speed --output FOLDER [--model FOLDER | --official] [--variants NAME ...] [--batch-size 4 ...]
        [--steps K ...]

Every variant runs in this process on the same random faces, after a warm-up, and its answers are compared with those of
eager float32. Written to OUTPUT: `speed.md`, `speed.json`; of several batch sizes each to a folder of its own, OUTPUT/SIZE.
Needs the extra `runtimes` for the variants of that kind.

How long a GPU idles between launches, and what share of its peak it reaches, for one face and for sixteen, 2 and 6 calls:

    python -m benchmarks.speed --output FOLDER --official --device cuda --batch-size 1 16 --steps 2 6 \
        --variants "float16, channels_last, compiled" "float16, channels_last, compiled whole"
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from difface_diffusers import DifFacePipeline, DifFaceUNet2DModel, SwinIREstimator
from difface_diffusers.acceleration.allocation import keep_freed_memory
from difface_diffusers.acceleration.calibration import quantize_graph
from difface_diffusers.acceleration.int8 import quantize_int8
from difface_diffusers.acceleration.int8_layers import largest_weight
from difface_diffusers.acceleration.layouts import to_channels_last
from difface_diffusers.acceleration.processor import ProcessorError, processor_name
from difface_diffusers.acceleration.runtimes import export_onnx, use_runtime
from difface_diffusers.hub.originals import prior, swinir
from difface_diffusers.hub.originals.checkpoints import read_config
from difface_diffusers.hub.originals.official import TASKS, ddim_scheduler

from .models import add_model_option, load_pipeline
from .reports import Report, name_start, saved_defaults


WARM_UPS, REPEATS = 2, 5
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MATRIX_SIDE = {"cpu": 4096, "cuda": 16384}  # of the product whose rate counts as the peak

Answers = tuple[torch.Tensor, torch.Tensor]  # of the prior and of the pipeline


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs.

    Attributes:
        median: Of all.
        fastest: Of all.
        slowest: Of all.
    """

    median: float
    fastest: float
    slowest: float

    def __format__(self, _: str) -> str:
        return f"{self.median:.3f} ({self.fastest:.3f} to {self.slowest:.3f})"


@dataclass(frozen=True)
class SpeedRow:
    """One variant.

    Attributes:
        estimator: One call.
        prior: One call.
        restoration: One call of the whole pipeline, by the number of calls of the prior.
        peak_share: What the prior's floating-point operations come to, as a share of the measured rate of a matrix product in
            the variant's precision.
        memory: Most that the longest restoration held beyond what was there before, bytes; `None` where it is not known.
        prior_error: Root mean square of the difference from float32's answer, as a share of that answer's standard
            deviation.
        picture_error: Mean absolute difference of its pictures from float32's, values from 0 to 1.
    """

    estimator: Timing
    prior: Timing
    restoration: dict[int, Timing]
    peak_share: float
    memory: int | None
    prior_error: float
    picture_error: float


@dataclass(frozen=True)
class SpeedReport(Report):
    """Figures of one run, as they are written to `speed.json`.

    Attributes:
        model: Folder or id of the pipeline.
        device: Its name.
        threads: Of torch.
        batch_size: Faces at once.
        size: Their side, pixels.
        settings: Start, eta and noise factor of the restorations, and the steps where none are asked for.
        operations: Floating-point operations of one call of the prior.
        rows: By variant.
    """

    model: str
    device: str
    threads: int
    batch_size: int
    size: int
    settings: dict[str, Any]
    operations: int
    rows: dict[str, SpeedRow]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        first = next(iter(self.rows.values()))
        restorations = " | ".join(f"restoration, {calls} calls (s)" for calls in first.restoration)
        lines = [
            f"| variant | estimator (s) | prior, one call (s) | of float32 | of the peak | {restorations} | memory (MB) "
            "| prior's error | picture's error |",
            f"| --- |{' ---: |' * (7 + len(first.restoration))}",
        ]
        for name, row in self.rows.items():
            ratio = row.prior.median / first.prior.median
            restorations = " | ".join(f"{timing}" for timing in row.restoration.values())
            memory = "" if row.memory is None else round(row.memory / 1e6)
            lines.append(
                f"| {name} | {row.estimator} | {row.prior} | {ratio:.2f} | {row.peak_share:.0%} | {restorations} "
                f"| {memory} | {row.prior_error:.2g} | {row.picture_error:.2g} |"
            )
        note = (
            f"{self.batch_size} faces of {self.size} x {self.size} pixels at once, from {name_start(self.settings)}; "
            f"{self.device}, {self.threads} threads; {self.operations / 1e9:.0f} GFLOP a call of the prior. Seconds for all "
            f"the faces together: median of {REPEATS} runs (fastest to slowest)."
        )
        return "\n".join([*lines, "", note, ""])


@dataclass(frozen=True)
class Variant:
    """A way to run the networks; what is not set stays as it is.

    Attributes:
        dtype: Of the weights and the arithmetic.
        channels_last: Whether the weights are laid out with their channels innermost, as for the compiler they always are.
        compiled: Whether `torch.compile` takes the networks, laid out by `to_channels_last`; a GPU runs the prior as CUDA
            graphs.
        whole: Whether a compiled estimator, too, is taken as a whole, and run as CUDA graphs, not block by block.
        runtime: Of `use_runtime`.
        int8: Whether the runtime's prior is one of `quantize_graph`, or without an runtime both networks are those of
            `quantize_int8`, calibrated on the faces that are restored.
        memory_kept: Whether the process keeps the memory that it frees; how much it needs is not measured then.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compiled: bool = False
    whole: bool = False
    runtime: str | None = None
    int8: bool = False
    memory_kept: bool = False

    def refusal(self, device: torch.device) -> str | None:
        """Say why it cannot be measured on a device; `None` if it can."""
        if device.type != "cpu" and (self.runtime or self.int8 or self.memory_kept):
            return f"on the CPU only, but --device is {device}"
        if self.int8 and self.runtime is None:
            try:
                largest_weight()
            except (ImportError, ProcessorError) as error:
                return str(error)
        return None


BASELINE = "float32"
VARIANTS = {
    BASELINE: Variant(),
    "float32, memory kept": Variant(memory_kept=True),
    "float32, channels_last": Variant(channels_last=True),
    "float32, channels_last, compiled": Variant(channels_last=True, compiled=True),
    "bfloat16": Variant(torch.bfloat16),
    "bfloat16, channels_last": Variant(torch.bfloat16, channels_last=True),
    "bfloat16, channels_last, compiled": Variant(torch.bfloat16, channels_last=True, compiled=True),
    "float16, channels_last, compiled": Variant(torch.float16, channels_last=True, compiled=True),
    "bfloat16, channels_last, compiled whole": Variant(torch.bfloat16, channels_last=True, compiled=True, whole=True),
    "float16, channels_last, compiled whole": Variant(torch.float16, channels_last=True, compiled=True, whole=True),
    "8 bits, float32, compiled": Variant(channels_last=True, compiled=True, int8=True),
    "8 bits, bfloat16, compiled": Variant(torch.bfloat16, channels_last=True, compiled=True, int8=True),
    "8 bits, bfloat16, compiled, memory kept": Variant(
        torch.bfloat16, channels_last=True, compiled=True, int8=True, memory_kept=True
    ),
    "ONNX Runtime": Variant(runtime="onnxruntime"),
    "OpenVINO": Variant(runtime="openvino"),
    "OpenVINO, bfloat16": Variant(torch.bfloat16, runtime="openvino"),
    "OpenVINO, 8 bits": Variant(runtime="openvino", int8=True),
}


def official_pipeline() -> DifFacePipeline:
    """Return the official 512-pixel restorer with random weights."""
    task = TASKS["restoration"]
    unet = read_config(task.prior.config, prior.REQUIRED, prior.DEFAULTS, prior.ONLY)
    estimator = read_config(task.estimator.config, swinir.REQUIRED, swinir.DEFAULTS, swinir.ONLY)
    torch.manual_seed(0)
    return DifFacePipeline(
        DifFaceUNet2DModel(**prior.unet_arguments(unet)).eval(),
        SwinIREstimator(**swinir.swinir_arguments(estimator)).eval(),
        ddim_scheduler(),
        **task.defaults,
    )


def prepare(pipe: DifFacePipeline, variant: Variant, folder: Path, faces: torch.Tensor) -> DifFacePipeline:
    """Return a copy of the pipeline that runs as a variant says; `folder` keeps what is exported for runtimes."""
    pipe = copy.deepcopy(pipe)
    if variant.runtime is not None:
        graphs = folder / ("int8" if variant.int8 else "float")
        if not graphs.exists():
            export_onnx(pipe, graphs)
            if variant.int8:
                quantize_graph(pipe, graphs, faces)
        use_runtime(pipe, graphs, variant.runtime, variant.dtype)
        return pipe
    if variant.int8:
        quantize_int8(pipe, faces, variant.dtype)
    else:
        pipe.to(variant.dtype)
    for network in (pipe.unet, pipe.estimator):
        if variant.compiled:
            to_channels_last(network)
        elif variant.channels_last:
            network.to(memory_format=torch.channels_last)
    if variant.compiled:
        compile_networks(pipe, variant)
    return pipe


def compile_networks(pipe: DifFacePipeline, variant: Variant) -> None:
    """Let `torch.compile` take the networks, when they are called, for the size of that batch alone."""
    torch.compiler.reset()  # or it would compile for any size, having seen another
    pipe.unet.compile(mode="reduce-overhead")  # as CUDA graphs on a GPU
    if variant.whole:
        pipe.estimator.compile(mode="reduce-overhead")
    elif pipe.estimator._repeated_blocks and not variant.int8:  # in 8 bits they are others
        pipe.estimator.compile_repeated_blocks()
    else:
        pipe.estimator.compile()


def time_runs(run: Callable[[], Any], device: torch.device) -> Timing:
    """Run `WARM_UPS` times, then `REPEATS` times against the clock."""
    for _ in range(WARM_UPS):
        run()
    seconds = []
    for _ in range(REPEATS):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the floating-point operations per second of a large square matrix product."""
    side = MATRIX_SIDE[device.type]
    first, second = torch.randn(2, side, side, device=device, dtype=dtype)
    return 2 * side**3 / time_runs(lambda: first @ second, device).fastest


def count_operations(pipe: DifFacePipeline, faces: torch.Tensor) -> int:
    """Return the floating-point operations of one call of the prior."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pipe.unet(faces, torch.tensor(10, device=faces.device))
    return counter.get_total_flops()


def measure_memory(run: Callable[[], Any], device: torch.device) -> int | None:
    """Return how many bytes more than before a run holds at its peak; `None` where the system does not tell."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    if not CLEAR.exists():
        return None
    CLEAR.write_text("5")  # the peak starts again from what is resident now
    before = _peak_of_process()
    run()
    return _peak_of_process() - before


def _peak_of_process() -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


@torch.no_grad()
def measure_variant(
    pipe: DifFacePipeline,
    variant: Variant,
    faces: torch.Tensor,
    steps: Sequence[int],
    operations: int,
    expected: Answers | None,
) -> tuple[SpeedRow, Answers]:
    """Measure a prepared pipeline, and compare its answers with the expected ones, or else with themselves."""
    pipe.set_progress_bar_config(disable=True)
    device = pipe.device
    inputs, timesteps = faces.to(device, pipe.unet.dtype), torch.tensor(10, device=device).expand(len(faces))

    def call_estimator() -> torch.Tensor:
        return pipe.estimator(inputs)

    def call_prior() -> torch.Tensor:
        return pipe.unet(inputs, timesteps).sample

    def restore(calls: int) -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(0)  # there, so that no noise is waited for
        return cast(Any, pipe(faces, calls, generator=generator, output_type="pt")).images

    epsilon, picture = answers = call_prior().float().cpu(), restore(max(steps)).float().cpu()
    expected_epsilon, expected_picture = answers if expected is None else expected
    prior_time = time_runs(call_prior, device)
    row = SpeedRow(
        estimator=time_runs(call_estimator, device),
        prior=prior_time,
        restoration={calls: time_runs(partial(restore, calls), device) for calls in steps},
        peak_share=operations / prior_time.median / measure_peak(variant.dtype, device),
        memory=None if variant.memory_kept else measure_memory(partial(restore, max(steps)), device),
        prior_error=((epsilon - expected_epsilon).square().mean().sqrt() / expected_epsilon.std()).item(),
        picture_error=(picture - expected_picture).abs().mean().item(),
    )
    return row, answers


def report(
    pipe: DifFacePipeline,
    model: str,
    names: Sequence[str],
    batch_size: int,
    device: torch.device,
    steps: Sequence[int] | None = None,
) -> SpeedReport:
    """Measure the named variants; the baseline is always among them, first.

    Args:
        pipe: Moved to `device`.
        model: What it is to be called.
        names: Of `VARIANTS`.
        batch_size: Faces at once.
        device: To measure on.
        steps: Of the restorations; the pipeline's default if there are none.
    """
    pipe.to(device)
    faces = torch.rand(batch_size, 3, *pipe.model_size, generator=torch.Generator().manual_seed(0))
    operations = count_operations(pipe, faces.to(device))
    steps = steps or [pipe.config.default_num_inference_steps]
    rows, expected = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for name in [BASELINE, *(name for name in names if name != BASELINE)]:
            variant = VARIANTS[name]
            keep_freed_memory(variant.memory_kept)
            runner = prepare(pipe, variant, Path(folder), faces)
            rows[name], answers = measure_variant(runner, variant, faces, steps, operations, expected)
            expected = expected or answers
    return SpeedReport(
        model=model,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        size=pipe.model_size[0],
        settings=saved_defaults(pipe),
        operations=operations,
        rows=rows,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure how fast a pipeline is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Speed of a DifFace pipeline by precision, memory layout, compiler and runtime.",
    )
    which = parser.add_mutually_exclusive_group()
    add_model_option(which)
    which.add_argument("--official", action="store_true", help="the official 512-pixel networks with random weights")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all that run on the device")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4], help="faces at once (default: 4)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--steps", type=int, nargs="+", help="calls of the prior (default: the pipeline's)")
    parser.add_argument("--start", type=int, help="instead of the pipeline's default")
    args = parser.parse_args(argv)
    for option, values in (("--batch-size", args.batch_size), ("--steps", args.steps or [1])):
        if min(values) < 1:
            parser.error(f"{option} must be at least 1, got {min(values)}")
    device = torch.device(args.device)
    refused = {name: reason for name, variant in VARIANTS.items() if (reason := variant.refusal(device)) is not None}
    variants = args.variants or [name for name in VARIANTS if name not in refused]
    for name in variants:
        if name in refused:
            parser.error(f"--variants {name}: {refused[name]}")

    pipe = official_pipeline() if args.official else load_pipeline(args.model, DifFacePipeline)
    if args.start is not None:
        pipe.register_to_config(default_start_timestep=args.start)
    model = "official architecture, random weights" if args.official else str(args.model)
    for batch_size in args.batch_size:
        figures = report(pipe, model, variants, batch_size, device, args.steps)
        figures.write(args.output if len(args.batch_size) == 1 else args.output / str(batch_size), "speed")
        print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
