"""What fewer network calls cost: quality by scheduler and number of calls, against the clean faces and a long chain.

    python -m benchmarks.steps --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size, degraded blindly over the training range, and restored from the start
that the pipeline saved. The reference is the path that DDIM with eta 0 follows, walked by DPM-Solver++ in 100 calls: DDIM's own
timesteps are a whole number apart, which for most numbers of calls moves the start. Written to OUTPUT: `steps.md`, `steps.json`
and `steps.png`, the curves. Needs the extras `metrics` and `dev`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import identity_distance, psnr
from difface_diffusers.utils.extras import import_extra

from .faces import add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore, with_parts
from .models import load_pipeline
from .quality import COLUMNS, LEGEND, measure, table
from .reports import FaceReport, circumstances, name_start


CALLS = (1, 2, 4, 6, 8, 10, 15, 20, 25, 50, 100)
REFERENCE_CALLS = 100
NEEDED_BY = "Drawing curves needs"
SAMPLERS: dict[str, tuple[Any, float | None]] = {  # scheduler, eta
    "DDIM, eta 0": (DDIMScheduler, 0.0),
    "DDIM, eta 0.5": (DDIMScheduler, 0.5),
    "DDIM, eta 1": (DDIMScheduler, 1.0),
    "DDPM": (DDPMScheduler, None),
    "DPM-Solver++": (DPMSolverMultistepScheduler, None),
    "UniPC": (UniPCMultistepScheduler, None),
    "Euler": (EulerDiscreteScheduler, None),
    "Euler ancestral": (EulerAncestralDiscreteScheduler, None),
}
EXTRA_COLUMNS = {
    "PSNR to the reference": ("psnr_to_reference", "{:.2f}"),
    "identity to the reference": ("identity_to_reference", "{:.3f}"),
}
CURVES = ("identity", "landmarks (px)", "gradients", "spectrum", "Fréchet", "PSNR to the reference")


@dataclass(frozen=True)
class StepsReport(FaceReport):
    """Figures of one run, as they are written to `steps.json`; a row is what `quality.measure` returns.

    Attributes:
        reference: The row of the reference.
        rows: By sampler and number of calls, with PSNR and identity distance to the reference's pictures.
    """

    reference: dict[str, float]
    rows: dict[str, dict[int, dict[str, float]]]

    def markdown(self) -> str:
        """Return a table for each sampler and the line that says what they were measured on."""
        lines = ["The reference:", "", *table({f"{REFERENCE_CALLS} calls": self.reference}), ""]
        for name, rows in self.rows.items():
            lines += [f"{name}:", ""]
            lines += table({f"K = {calls}": row for calls, row in rows.items()}, COLUMNS | EXTRA_COLUMNS)
            lines.append("")
        start = name_start(self.settings)
        note = f"{self.faces} faces of {self.size} x {self.size} pixels, K network calls from {start}. {LEGEND}"
        return "\n".join([*lines, note, ""])


def report(
    pipe: DifFacePipeline, model: str, samplers: Sequence[str], clean: torch.Tensor, seed: int, batch_size: int
) -> StepsReport:
    """Restore with each of the named samplers and every number of calls, and measure."""
    degraded = degrade_faces(clean, seed)
    solver = with_parts(pipe, scheduler=DPMSolverMultistepScheduler.from_config(pipe.scheduler.config))
    reference, _ = restore(solver, degraded, batch_size, num_inference_steps=REFERENCE_CALLS)
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for name in samplers:
        scheduler_class, eta = SAMPLERS[name]
        sampler = with_parts(pipe, scheduler=scheduler_class.from_config(pipe.scheduler.config))
        rows[name] = {}
        for calls in CALLS:
            images, _ = restore(sampler, degraded, batch_size, num_inference_steps=calls, eta=eta)
            rows[name][calls] = measure(images, clean) | {
                "psnr_to_reference": psnr(images, reference).mean().item(),
                "identity_to_reference": identity_distance(images, reference).mean().item(),
            }
    return StepsReport(
        **circumstances(pipe, model, clean, seed),
        reference=measure(reference, clean),
        rows=rows,
    )


def draw_curves(figures: StepsReport, path: Path) -> None:
    """Draw each of `CURVES` over the number of calls, a line for each sampler, the reference dashed."""
    picture = import_extra("matplotlib.figure", "dev", NEEDED_BY).Figure(figsize=(13, 8), layout="constrained")
    axes = picture.subplots(2, len(CURVES) // 2)
    for axis, header in zip(axes.flat, CURVES, strict=True):
        metric, _ = (COLUMNS | EXTRA_COLUMNS)[header]
        for name, rows in figures.rows.items():
            axis.plot(list(rows), [row[metric] for row in rows.values()], marker=".", label=name)
        if metric in figures.reference:
            axis.axhline(figures.reference[metric], color="black", linestyle="--", label="reference")
        axis.set(title=header, xlabel="network calls", xscale="log", xticks=CALLS, xticklabels=CALLS)
        axis.minorticks_off()
    picture.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(figures.rows) + 1)
    picture.savefig(path, dpi=100)


def write_report(figures: StepsReport, folder: Path) -> None:
    """Write `steps.md`, `steps.json` and `steps.png`."""
    figures.write(folder, "steps")
    draw_curves(figures, folder / "steps.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what fewer network calls cost a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps",
        description="Quality of a DifFace pipeline by scheduler and number of network calls.",
    )
    add_face_options(parser)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS), help="default: all")
    args = parser.parse_args(argv)
    check_face_options(parser, args, lowest_limit=2)  # one face is no set
    import_extra("matplotlib.figure", "dev", NEEDED_BY)  # missing: reported before the long part

    pipe = load_pipeline(args.model, DifFacePipeline)
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures = report(pipe, str(args.model), args.samplers, clean, args.seed, args.batch_size)
    write_report(figures, args.output)
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
