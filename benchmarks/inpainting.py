"""How well a pipeline fills holes, next to fills that know nothing of faces: tables and a sheet for each kind of mask.

    python -m benchmarks.inpainting --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size and lose what one mask each takes away; the pipeline's defaults fill the
hole. Written to OUTPUT: `inpainting.md`, `inpainting.json`, `inpainting.png`. Needs the extra `metrics`.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from difface_diffusers import DifFaceInpaintPipeline
from difface_diffusers.degradation.holes import MASKS, REFERENCE_SIZE
from difface_diffusers.evaluation import identity_distance, image_grid

from .faces import add_face_options, check_face_options, load_chosen_faces, restore
from .models import load_pipeline
from .reports import FaceReport, circumstances


COVERAGE_DRAWS = 1500
OPENCV_RADIUS = 3  # pixels
FACES_ON_SHEET = 3  # of each kind


@dataclass(frozen=True)
class InpaintingReport(FaceReport):
    """Figures of one run, as they are written to `inpainting.json`.

    Attributes:
        coverage: for each kind of mask, mean, standard deviation, 5th and 95th percentile of the share that is missing,
            over 1,500 masks of 256 x 256 pixels.
        psnr: for each kind of mask and each fill the mean over the faces of the PSNR of the missing pixels, decibels.
        identity: the same for the identity distance between the filled face and the clean one.
    """

    coverage: dict[str, dict[str, float]]
    psnr: dict[str, dict[str, float]]
    identity: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """Return the two tables and the line that says what they were measured on."""
        lines = ["PSNR of the missing pixels (dB):", "", *_table(self.psnr, "{:.2f}", self.coverage)]
        lines += ["", "Identity distance between the filled and the clean face:", ""]
        lines += _table(self.identity, "{:.3f}", self.coverage)
        note = f"Mean over {self.faces} faces of {self.size} x {self.size} pixels. Missing: mean share over"
        return "\n".join([*lines, "", f"{note} {COVERAGE_DRAWS} masks, standard deviation, 5 to 95 %.", ""])


def _table(values: dict[str, dict[str, float]], form: str, coverage: dict[str, dict[str, float]]) -> list[str]:
    fills = list(next(iter(values.values())))
    lines = ["| mask | missing | " + " | ".join(fills) + " |", "| --- | ---: |" + " ---: |" * len(fills)]
    for kind, row in values.items():
        missing = "{mean:.2f} ({deviation:.2f}; {low:.2f} to {high:.2f})".format(**coverage[kind])
        lines.append(" | ".join([f"| {kind}", missing, *(form.format(row[fill]) for fill in fills)]) + " |")
    return lines


def draw_masks(kind: str, count: int, size: int, seed: int) -> torch.Tensor:
    """Draw masks `[count,1,size,size]`, 1 where the face is missing; the i-th depends on `seed` and i alone."""
    masks = [MASKS[kind](size, np.random.default_rng([seed, index])) for index in range(count)]
    return torch.from_numpy(np.stack(masks))[:, None]


def measure_coverage(kind: str, seed: int, draws: int) -> dict[str, float]:
    """Return mean, deviation and the outer percentiles of the share that masks of 256 x 256 pixels take away."""
    shares = draw_masks(kind, draws, REFERENCE_SIZE, seed).mean(dim=(1, 2, 3)).numpy()
    low, high = np.quantile(shares, (0.05, 0.95))
    return {"mean": float(shares.mean()), "deviation": float(shares.std()), "low": float(low), "high": float(high)}


def mean_fill(face: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Fill the hole of `[3,S,S]` with the mean color of what is left."""
    known = 1 - mask
    mean = (face * known).sum(dim=(1, 2)) / known.sum().clamp(min=1)
    return torch.where(mask > 0, mean[:, None, None], face)


def opencv_fill(face: torch.Tensor, mask: torch.Tensor, method: int) -> torch.Tensor:
    """Fill the hole of `[3,S,S]` with one of OpenCV's two methods."""
    pixels = (face * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    filled = cv2.inpaint(pixels, mask[0].byte().numpy(), OPENCV_RADIUS, method)
    return torch.where(mask > 0, torch.from_numpy(filled).permute(2, 0, 1) / 255, face)


PLAIN_FILLS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": mean_fill,
    "Telea": lambda face, mask: opencv_fill(face, mask, cv2.INPAINT_TELEA),
    "Navier-Stokes": lambda face, mask: opencv_fill(face, mask, cv2.INPAINT_NS),
}


def inpaint(
    pipe: DifFaceInpaintPipeline, damaged: torch.Tensor, masks: torch.Tensor, batch_size: int
) -> dict[str, torch.Tensor]:
    """Fill `[B,3,S,S]` with the pipeline's defaults and one generator a face, seeded by its index.

    Returns:
        The estimator's answers under "estimate", the results under "inpainted"; `[B,3,S,S]` in [0,1] on the CPU.
    """
    images, estimates = restore(pipe, damaged, batch_size, masks)
    return {"estimate": estimates, "inpainted": images}


def psnr_of_holes(image: torch.Tensor, clean: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return the PSNR of the pixels that are missing, over the three channels, `[B]`, decibels."""
    error = ((image.double() - clean.double()) ** 2 * masks).sum(dim=(1, 2, 3)) / (3 * masks.sum(dim=(1, 2, 3)))
    return -10 * error.log10()


def report(
    pipe: DifFaceInpaintPipeline, model: str, clean: torch.Tensor, seed: int, batch_size: int
) -> tuple[InpaintingReport, dict[str, dict[str, torch.Tensor]]]:
    """Take away, fill and measure, for every kind of mask.

    Returns:
        The figures, and for each kind of mask the pictures `[B,3,S,S]` under "input", the name of each fill and "clean".
    """
    psnr, identity, pictures = {}, {}, {}
    for kind in tqdm(MASKS, desc="filling"):
        masks = draw_masks(kind, len(clean), clean.shape[-1], seed)
        damaged = clean * (1 - masks)
        fills = {
            name: torch.stack([fill(face, mask) for face, mask in zip(damaged, masks, strict=True)])
            for name, fill in PLAIN_FILLS.items()
        }
        fills |= inpaint(pipe, damaged, masks, batch_size)
        psnr[kind] = {name: psnr_of_holes(images, clean, masks).mean().item() for name, images in fills.items()}
        identity[kind] = {name: identity_distance(images, clean).mean().item() for name, images in fills.items()}
        pictures[kind] = {"input": damaged, **fills, "clean": clean}
    figures = InpaintingReport(
        **circumstances(pipe, model, clean, seed),
        coverage={kind: measure_coverage(kind, seed, COVERAGE_DRAWS) for kind in MASKS},
        psnr=psnr,
        identity=identity,
    )
    return figures, pictures


def write_report(figures: InpaintingReport, pictures: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
    """Write `inpainting.md`, `inpainting.json` and, with the first faces of each kind of mask, `inpainting.png`."""
    figures.write(folder, "inpainting")
    names = list(next(iter(pictures.values())))
    columns = {name: torch.cat([row[name][:FACES_ON_SHEET] for row in pictures.values()]) for name in names}
    image_grid(columns).save(folder / "inpainting.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inpainting",
        description="How well a DifFace pipeline fills holes in clean aligned faces, next to OpenCV's fills.",
    )
    add_face_options(parser)
    args = parser.parse_args(argv)
    check_face_options(parser, args)

    pipe = load_pipeline(args.model, DifFaceInpaintPipeline)
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures, pictures = report(pipe, str(args.model), clean, args.seed, args.batch_size)
    write_report(figures, pictures, args.output)
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
