"""How good the restorations of a pipeline are: the table and the sheet of its model card.

    python -m benchmarks.quality --model difface_diffusers/mini --data FOLDER_OF_CLEAN_FACES --output FOLDER

Clean aligned faces are brought to the model's size, degraded by one fixed recipe in the middle of the training range,
and restored with the defaults saved in the pipeline. Written to OUTPUT: `quality.md`, `quality.json`, `quality.png`.
Needs the extra `metrics`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm import tqdm

from difface_diffusers import BUNDLED_MODEL, DifFacePipeline
from difface_diffusers.evaluation import gradient_energy_ratio, identity_distance, psnr, sheet, ssim
from difface_diffusers.training.data import IMAGE_SUFFIXES, read_face
from difface_diffusers.training.degradation import DegradationRanges, degrade


# The middle of DegradationRanges(), in its units: pixels of a 512-pixel face.
MIDDLE = DegradationRanges(
    blur_sigma=(6, 9), downscale=(14, 18), noise_sigma=(8, 12), jpeg_quality=(55, 75), gray_probability=0
)


@dataclass(frozen=True)
class QualityReport:
    """Mean figures of one run, as they are written to `quality.json`.

    Attributes:
        model: Folder or id of the pipeline.
        faces: Number of faces.
        size: Their side, pixels.
        seed: Of the degradations.
        degradation: The recipe, as a dictionary.
        settings: Steps, start and eta that the pipeline's config names.
        rows: For "input", "estimate" and "restored" the mean of each metric against the clean face.
        strangers: Mean identity distance between each clean face and the next one, `None` for a single face.
    """

    model: str
    faces: int
    size: int
    seed: int
    degradation: dict[str, object]
    settings: dict[str, float]
    rows: dict[str, dict[str, float]]
    strangers: float | None

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        lines = [
            "|  | PSNR (dB) | SSIM | identity distance | gradient energy |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, row in self.rows.items():
            cells = (row["psnr"], row["ssim"], row["identity_distance"], row["gradient_energy_ratio"])
            lines.append("| {} | {:.2f} | {:.3f} | {:.3f} | {:.3f} |".format(name, *cells))
        note = f"Mean over {self.faces} faces of {self.size} x {self.size} pixels, against the clean face (identity: "
        note += "below 0.6 counts as the same person"
        if self.strangers is not None:
            note += f", two different clean faces are {self.strangers:.3f} apart"
        note += "; gradient energy: 1 is as sharp as the clean face)."
        return "\n".join([*lines, "", note, ""])


def load_faces(folder: Path, size: int, limit: int | None = None) -> torch.Tensor:
    """Read the first `limit` images of a folder, by name.

    Returns:
        RGB `[B,3,size,size]` in [0, 1], float32.

    Raises:
        ValueError: The folder holds no image, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)[:limit]
    if not paths:
        raise ValueError(f"`data` must be a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none in {folder}")
    return torch.stack([torch.from_numpy(read_face(path, size)).permute(2, 0, 1) for path in paths])


def degrade_faces(clean: torch.Tensor, seed: int, ranges: DegradationRanges = MIDDLE) -> torch.Tensor:
    """Degrade each of `[B,3,S,S]`; the i-th depends on `seed` and i alone."""
    faces = [
        degrade(face, ranges, np.random.default_rng([seed, index]))
        for index, face in enumerate(clean.permute(0, 2, 3, 1).contiguous().numpy())
    ]
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()


def restore(pipe: DifFacePipeline, degraded: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Restore `[B,3,S,S]` with the pipeline's defaults and one generator a face, seeded by its index.

    Returns:
        The restorations and the estimator's answers, both RGB `[B,3,S,S]` in [0, 1] on the CPU.
    """
    pipe.set_progress_bar_config(disable=True)
    images, estimates = [], []
    for indices in tqdm(torch.arange(len(degraded)).split(batch_size), desc="restoring"):
        generators = [torch.Generator().manual_seed(int(index)) for index in indices]
        # "pt" and equal sizes: two tensors
        output = cast(Any, pipe(degraded[indices], generator=generators, output_type="pt"))
        images.append(output.images.cpu())
        estimates.append(output.estimates.cpu())
    return torch.cat(images), torch.cat(estimates)


def measure(images: torch.Tensor, clean: torch.Tensor) -> dict[str, float]:
    """Return the mean of every metric over a batch, under the metric's name."""
    metrics = (psnr, ssim, identity_distance, gradient_energy_ratio)
    return {metric.__name__: metric(images, clean).mean().item() for metric in metrics}


def report(
    pipe: DifFacePipeline, model: str, clean: torch.Tensor, seed: int, batch_size: int
) -> tuple[QualityReport, dict[str, torch.Tensor]]:
    """Degrade, restore and measure.

    Returns:
        The figures, and the pictures `[B,3,S,S]` under "input", "estimate", "restored" and "clean".
    """
    degraded = degrade_faces(clean, seed)
    rows = {"input": measure(degraded, clean)}  # first: a missing extra is reported before the long part
    restored, estimates = restore(pipe, degraded, batch_size)
    rows |= {"estimate": measure(estimates, clean), "restored": measure(restored, clean)}
    figures = QualityReport(
        model=model,
        faces=len(clean),
        size=clean.shape[-1],
        seed=seed,
        degradation=asdict(MIDDLE),
        settings={name: value for name, value in pipe.config.items() if name.startswith("default_")},
        rows=rows,
        strangers=identity_distance(clean, clean.roll(1, dims=0)).mean().item() if len(clean) > 1 else None,
    )
    return figures, {"input": degraded, "estimate": estimates, "restored": restored, "clean": clean}


def write_report(figures: QualityReport, pictures: dict[str, torch.Tensor], folder: Path, sheet_faces: int) -> None:
    """Write `quality.md`, `quality.json` and, unless `sheet_faces` is 0, `quality.png` with the first faces."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.md").write_text(figures.markdown(), encoding="utf-8")
    (folder / "quality.json").write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    if sheet_faces:
        columns = {name: images[:sheet_faces] for name, images in pictures.items()}
        sheet(columns).save(folder / "quality.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description="Restoration quality of a DifFace pipeline on clean aligned faces, degraded by a fixed recipe.",
    )
    parser.add_argument("--model", default=BUNDLED_MODEL, help="pipeline folder or Hub id (default: the bundled one)")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--limit", type=int, help="use only the first LIMIT faces")
    parser.add_argument("--sheet", type=int, default=16, help="faces on the sheet (default: 16; 0: no sheet)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the degradations (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8, help="faces restored at once (default: 8)")
    args = parser.parse_args(argv)
    for name, lowest in (("limit", 1), ("sheet", 0), ("seed", 0), ("batch_size", 1)):
        value = getattr(args, name)
        if value is not None and value < lowest:
            parser.error(f"--{name.replace('_', '-')} must be at least {lowest}, got {value}")

    pipe = DifFacePipeline.from_pretrained(args.model)
    clean = load_faces(args.data, pipe.model_size[0], args.limit)
    figures, pictures = report(pipe, str(args.model), clean, args.seed, args.batch_size)
    write_report(figures, pictures, args.output, args.sheet)
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
