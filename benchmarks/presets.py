"""What the presets of a pipeline bring, and what they cost: time and quality beside a long chain of DDIM.

    python -m benchmarks.presets --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size, degraded blindly over the training range, and restored in this process
by 100 calls of DDIM with eta 0 and by each preset, one after the other, all of them in float32 and uncompiled. Written to
OUTPUT: `presets.md` and `presets.json`. Needs the extra `metrics`.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr

from .faces import add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore, with_parts
from .models import load_pipeline
from .quality import COLUMNS, LEGEND, measure, table
from .reports import FaceReport, circumstances


BASELINE = "DDIM, 100 calls"
BASELINE_SETTINGS = {"num_inference_steps": 100, "eta": 0.0}
EXTRA_COLUMNS = {
    "s a face": ("seconds", "{:.3f}"),
    "faster": ("faster", "{:.1f}x"),
    "PSNR to it": ("psnr_to_baseline", "{:.1f}"),
}


@dataclass(frozen=True)
class PresetsReport(FaceReport):
    """Figures of one run, as they are written to `presets.json`.

    Attributes:
        threads: Of torch.
        batch_size: Faces at once.
        rows: For the baseline and each preset, what `quality.measure` returns, the seconds a face took, how often that goes
            into the baseline's, and the PSNR to the baseline's pictures.
    """

    threads: int
    batch_size: int
    rows: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        note = (
            f"{self.faces} faces of {self.size} x {self.size} pixels in batches of {self.batch_size}, {self.threads} threads, "
            f"float32. {LEGEND}"
        )
        return "\n".join([*table(self.rows, EXTRA_COLUMNS | COLUMNS), "", note, ""])


def report(pipe: DifFacePipeline, model: str, clean: torch.Tensor, seed: int, batch_size: int) -> PresetsReport:
    """Restore by the baseline and by every preset of the pipeline, and measure."""
    degraded = degrade_faces(clean, seed)
    baseline = with_parts(pipe, scheduler=DDIMScheduler.from_config(pipe.scheduler.config))
    runs: dict[str, tuple[DifFacePipeline, dict[str, Any]]] = {BASELINE: (baseline, BASELINE_SETTINGS)}
    runs |= {name: (pipe, {"preset": name}) for name in pipe.config.presets}
    restore(pipe, degraded[:batch_size], batch_size)  # the first run is slower than the rest

    rows: dict[str, dict[str, float]] = {}
    expected = None
    for name, (runner, settings) in runs.items():
        began = time.perf_counter()
        images, _ = restore(runner, degraded, batch_size, **settings)
        seconds = (time.perf_counter() - began) / len(clean)
        expected = images if expected is None else expected
        rows[name] = measure(images, clean) | {
            "seconds": seconds,
            "faster": rows[BASELINE]["seconds"] / seconds if rows else 1.0,
            "psnr_to_baseline": psnr(images, expected).mean().item(),
        }
    return PresetsReport(
        **circumstances(pipe, model, clean, seed),
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        rows=rows,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the presets of a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.presets",
        description="Time and quality of a DifFace pipeline's presets, beside 100 calls of DDIM.",
    )
    add_face_options(parser)
    args = parser.parse_args(argv)
    check_face_options(parser, args, lowest_limit=2)  # one face is no set

    pipe = load_pipeline(args.model, DifFacePipeline)
    if not pipe.config.presets:
        parser.error(f"--model {args.model} has no presets")
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures = report(pipe, str(args.model), clean, args.seed, args.batch_size)
    figures.write(args.output, "presets")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
