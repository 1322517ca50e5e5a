"""How good the restorations of a pipeline are: the table and the sheet of its model card.

    python -m benchmarks.quality --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size, degraded blindly over the whole training range, and restored with the
defaults saved in the pipeline. Written to OUTPUT: `quality.md`, `quality.json` and `quality.png`, faces over the whole range
of damage, the least damaged first. Needs the extra `metrics`.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import (
    frechet_distance,
    gradient_ratio,
    identity_distance,
    image_grid,
    landmark_distance,
    piqe,
    psnr,
    spectrum_distance,
    ssim,
)

from .faces import BLIND, add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore
from .models import load_pipeline
from .reports import FaceReport, circumstances


# The metrics by their column of the table and its format.
COLUMNS = {
    "PSNR (dB)": ("psnr", "{:.2f}"),
    "SSIM": ("ssim", "{:.3f}"),
    "identity": ("identity_distance", "{:.3f}"),
    "landmarks (px)": ("landmark_distance", "{:.2f}"),
    "PIQE": ("piqe", "{:.1f}"),
    "gradients": ("gradient_ratio", "{:.3f}"),
    "spectrum": ("spectrum_distance", "{:.2f}"),
    "Fréchet": ("frechet_distance", "{:.3f}"),
}
TIMED = {"seconds a face": ("seconds", "{:.2f}")}
LEGEND = (
    "Identity: distance in dlib's embedding, below 0.6 counts as the same person. Landmarks: mean distance, in pixels of "
    "a 256-pixel face. PIQE: visible distortion, 0 to 100, judged without the clean face. Gradients: mean against the "
    "clean face, 1 is as sharp. Spectrum: mean difference of the set's log power from the clean faces'. Fréchet: distance "
    "of the set from the clean faces in dlib's embedding."
)
SHEET_BLOCKS = 3


@dataclass(frozen=True)
class QualityReport(FaceReport):
    """Figures of one run, as they are written to `quality.json`.

    Attributes:
        degradation: The ranges, as a dictionary.
        rows: For "input", "estimate" and "restored" what `measure` returns; for the last the seconds that a face took, too.
        nearer: For "estimate" and "restored", by how much the identity distance lies below the input's: `mean`, its
            `standard_error`, and the `share` of the faces of which it does.
        clean_piqe: PIQE of the clean faces.
        strangers: Mean identity distance between each clean face and the next one.
    """

    degradation: dict[str, object]
    rows: dict[str, dict[str, float]]
    nearer: dict[str, dict[str, float]]
    clean_piqe: float
    strangers: float

    def markdown(self) -> str:
        """Return the table and the lines that say what it was measured on."""
        lines = table(self.rows, COLUMNS | TIMED)
        lines += [
            "",
            f"Mean over {self.faces} faces of {self.size} x {self.size} pixels, against the clean ones. {LEGEND}",
        ]
        gains = " and ".join(
            f"the {name} face by {gain['mean']:.3f} +- {gain['standard_error']:.3f}, in {gain['share']:.0%} of the cases,"
            for name, gain in self.nearer.items()
        )
        lines += [
            "",
            f"In identity {gains} is nearer than the input (mean +- its standard error); two different clean faces are "
            f"{self.strangers:.3f} apart. The clean faces have a PIQE of {self.clean_piqe:.1f}.",
            "",
        ]
        return "\n".join(lines)


def table(rows: dict[str, dict[str, float]], columns: dict[str, tuple[str, str]] = COLUMNS) -> list[str]:
    """Return the lines of a Markdown table with a row for each entry; `columns` maps headers to key and format.

    What a row does not have is left blank.
    """
    lines = ["|  | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, row in rows.items():
        cells = [form.format(row[metric]) if metric in row else "" for metric, form in columns.values()]
        lines.append(" | ".join([f"| {name}", *cells]) + " |")
    return lines


def measure_each(images: torch.Tensor, clean: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return every metric of `[B,3,S,S]`, under the metric's name; `[B]`, or one number where it is of the whole set."""
    metrics = (psnr, ssim, identity_distance, landmark_distance, gradient_ratio, spectrum_distance, frechet_distance)
    return {metric.__name__: metric(images, clean) for metric in metrics} | {"piqe": piqe(images)}


def measure(images: torch.Tensor, clean: torch.Tensor) -> dict[str, float]:
    """Return the same as means over the set."""
    return {name: values.mean().item() for name, values in measure_each(images, clean).items()}


def summarize(gains: torch.Tensor) -> dict[str, float]:
    """Return mean, standard error and the share above 0 of `[B]`."""
    return {
        "mean": gains.mean().item(),
        "standard_error": gains.std().item() / len(gains) ** 0.5,
        "share": (gains > 0).double().mean().item(),
    }


def report(
    pipe: DifFacePipeline, model: str, clean: torch.Tensor, seed: int, batch_size: int
) -> tuple[QualityReport, dict[str, torch.Tensor]]:
    """Degrade, restore and measure.

    Returns:
        The figures, and the pictures `[B,3,S,S]` under "input", "estimate", "restored" and "clean".
    """
    degraded = degrade_faces(clean, seed)
    rows = {"input": measure(degraded, clean)}  # first: a missing extra is reported before the long part
    began = time.perf_counter()
    restored, estimates = restore(pipe, degraded, batch_size)
    seconds = (time.perf_counter() - began) / len(clean)
    rows |= {"estimate": measure(estimates, clean), "restored": measure(restored, clean) | {"seconds": seconds}}
    distance = identity_distance(degraded, clean)
    figures = QualityReport(
        **circumstances(pipe, model, clean, seed),
        degradation=asdict(BLIND),
        rows=rows,
        nearer={
            name: summarize(distance - identity_distance(images, clean))
            for name, images in (("estimate", estimates), ("restored", restored))
        },
        clean_piqe=piqe(clean).mean().item(),
        strangers=identity_distance(clean, clean.roll(1, dims=0)).mean().item(),
    )
    return figures, {"input": degraded, "estimate": estimates, "restored": restored, "clean": clean}


def spread_by_damage(pictures: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Pick `count` faces evenly over the range of damage, ordered from the highest PSNR of the input to the lowest."""
    order = psnr(pictures["input"], pictures["clean"]).argsort(descending=True)
    picked = order[torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()]
    return {name: images[picked] for name, images in pictures.items()}


def write_report(figures: QualityReport, pictures: dict[str, torch.Tensor], folder: Path, sheet_faces: int) -> None:
    """Write `quality.md`, `quality.json` and, unless `sheet_faces` is 0, `quality.png`."""
    figures.write(folder, "quality")
    if sheet_faces:
        image_grid(spread_by_damage(pictures, sheet_faces), SHEET_BLOCKS).save(folder / "quality.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description="Restoration quality of a DifFace pipeline on clean aligned faces, degraded over the training range.",
    )
    add_face_options(parser)
    parser.add_argument("--sheet", type=int, default=24, help="faces on the sheet (default: 24; 0: no sheet)")
    args = parser.parse_args(argv)
    check_face_options(parser, args, lowest_limit=2)  # one face is no set
    if args.sheet < 0:
        parser.error(f"--sheet must be at least 0, got {args.sheet}")

    pipe = load_pipeline(args.model, DifFacePipeline)
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures, pictures = report(pipe, str(args.model), clean, args.seed, args.batch_size)
    write_report(figures, pictures, args.output, args.sheet)
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
