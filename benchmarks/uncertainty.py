"""Does a restoration know where it guesses? How its samples' spread goes with its true error: a table and a sheet.

    python -m benchmarks.uncertainty --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size, damaged to several degrees and restored several times with the defaults
saved in the pipeline. The error is that of one sample, the uncertainty the standard deviation of the others. Written to
OUTPUT: `uncertainty.md`, `uncertainty.json` and `uncertainty.png`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr

from difface_diffusers import DifFacePipeline
from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.evaluation import image_grid
from difface_diffusers.photos.samples import BRIGHTEST_UNCERTAINTY, deviation

from .faces import BLIND, add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore
from .models import load_pipeline
from .reports import FaceReport, circumstances


DAMAGES = {
    "slight": DegradationRanges((0.1, 1.0), (0.8, 2.0), (0.0, 1.0), (90.0, 100.0)),
    "whole range": BLIND,
    "heavy": DegradationRanges((10.0, 15.0), (24.0, 32.0), (15.0, 20.0), (30.0, 40.0)),
}
BLUR_SIGMA = 4  # pixels, of both maps before they are compared
FACES_ON_SHEET = 6


@dataclass(frozen=True)
class UncertaintyReport(FaceReport):
    """Figures of one run, as they are written to `uncertainty.json`.

    Attributes:
        samples: restorations of each face.
        rows: by damage the mean over the faces of the rank `correlation` (Spearman) of uncertainty and error over the
            pixels, the `lowest` of a face, what the `edges` of the restoration reach in the place of uncertainty, the mean
            `uncertainty` and the mean `error`, both on the scale of [0, 1].
    """

    samples: int
    rows: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        lines = ["| damage | correlation | lowest | edges | uncertainty | error |", "| --- |" + " ---: |" * 5]
        lines += [
            "| {} | {correlation:.2f} | {lowest:.2f} | {edges:.2f} | {uncertainty:.4f} | {error:.4f} |".format(
                name, **row
            )
            for name, row in self.rows.items()
        ]
        note = (
            f"Mean over {self.faces} faces of {self.size} x {self.size} pixels. Correlation: Spearman's, over the pixels of a"
            f" face, both maps blurred by {BLUR_SIGMA} pixels; lowest: that of the worst face; edges: that of the"
            f" restoration's gradient with the error. Uncertainty: the standard deviation of {self.samples - 1} samples;"
            " error: that of one more."
        )
        return "\n".join([*lines, "", note, ""])


def compare(samples: torch.Tensor, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uncertainty and error of faces, `[B,S,S]` each, from samples `[B,M,3,S,S]`; the first has the error."""
    uncertainty = torch.stack([deviation(of_face) for of_face in samples[:, 1:]])
    return uncertainty, (samples[:, 0] - clean).square().mean(dim=1).sqrt()


def edges(images: torch.Tensor) -> torch.Tensor:
    """Return the length of the gradient of images `[B,3,S,S]`, the root mean square over the channels: `[B,S,S]`."""
    squares = sum(gradient.square() for gradient in torch.gradient(images, dim=(-2, -1)))
    return squares.mean(dim=1).sqrt()


def correlations(uncertainty: torch.Tensor, error: torch.Tensor) -> list[float]:
    """Return for each of `[B,S,S]` Spearman's correlation of the two blurred maps."""
    return [
        float(spearmanr(*(cv2.GaussianBlur(each.numpy(), (0, 0), BLUR_SIGMA).ravel() for each in pair)).statistic)
        for pair in zip(uncertainty, error, strict=True)
    ]


def report(
    pipe: DifFacePipeline, model: str, clean: torch.Tensor, seed: int, batch_size: int, samples: int
) -> tuple[UncertaintyReport, dict[str, torch.Tensor]]:
    """Damage, restore and measure.

    Returns:
        The figures, and of the whole range of damage the pictures `[B,3,S,S]`: input, a restoration, error and uncertainty.
    """
    rows, pictures = {}, {}
    for name, ranges in DAMAGES.items():
        degraded = degrade_faces(clean, seed, ranges)
        restored = restore(pipe, degraded.repeat_interleave(samples, dim=0), batch_size)[0].unflatten(0, (-1, samples))
        uncertainty, error = compare(restored, clean)
        of_faces = correlations(uncertainty, error)
        rows[name] = {
            "correlation": float(np.mean(of_faces)),
            "lowest": min(of_faces),
            "edges": float(np.mean(correlations(edges(restored[:, 0]), error))),
            "uncertainty": uncertainty.mean().item(),
            "error": error.mean().item(),
        }
        if ranges is BLIND:
            maps = {"error": error, "uncertainty": uncertainty}
            shown = {
                key: (each / BRIGHTEST_UNCERTAINTY).clamp(max=1)[:, None].expand(-1, 3, -1, -1)
                for key, each in maps.items()
            }
            pictures = {"input": degraded, "restored": restored[:, 0], **shown}
    return UncertaintyReport(**circumstances(pipe, model, clean, seed), samples=samples, rows=rows), pictures


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uncertainty",
        description="Uncertainty of a DifFace pipeline against its true error.",
    )
    add_face_options(parser)
    parser.add_argument("--samples", type=int, default=6, help="restorations of each face (default: 6)")
    args = parser.parse_args(argv)
    check_face_options(parser, args)
    if args.samples < 3:
        parser.error(f"--samples must be at least 3, got {args.samples}")

    pipe = load_pipeline(args.model, DifFacePipeline)
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures, pictures = report(pipe, str(args.model), clean, args.seed, args.batch_size, args.samples)
    figures.write(args.output, "uncertainty")
    image_grid({name: images[:FACES_ON_SHEET] for name, images in pictures.items()}).save(
        args.output / "uncertainty.png"
    )
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
