"""Does the restoration spare what is good? Tables of what it changes in clean faces, and in damaged ones.

    python -m benchmarks.harm --data FOLDER_OF_ALIGNED_FACES --output FOLDER

Clean faces are planted at many sizes in painted backgrounds without damage, and the photographs are restored as
`restore_photo` does by default, and whole (`keep_clean=False`). Then aligned faces are damaged more and more. Written to
OUTPUT: `harm.md` and `harm.json`. Needs dlib from the extra `metrics`.

The damage that the estimator sees in clean faces is the first row of the second table; a `clean_damage` that nine of ten
of them stay below is its last decile.
"""

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.backgrounds import textured_background
from benchmarks.faces import sample_faces
from benchmarks.models import add_model_option, load_pipeline
from benchmarks.reports import Report
from difface_diffusers import DifFacePipeline, restore_photo
from difface_diffusers.degradation.blind import DegradationRanges, degrade
from difface_diffusers.evaluation import identity_distance, psnr
from difface_diffusers.faces.alignment import align, warp
from difface_diffusers.photos.pasting import fit_in
from difface_diffusers.photos.treatment import choose_treatment


SIZES = 40, 800  # of planted faces, sides of the aligned square, pixels
SIDE = 1000  # of the photographs
RIM = 0.1  # share of a planted square over which it fades into the background
JUDGED = 256  # side at which faces are compared by their identity
SHARES = 0, 0.1, 0.25, 0.4, 0.6, 0.8, 1  # of the training's degradation


@dataclass(frozen=True)
class Planted:
    """A clean face in a photograph, before against after; without figures if it was not found.

    Attributes:
        size: side of its aligned square, pixels.
        damage: see `FaceTreatment`.
        identity: distance by the default restoration.
        psnr: of the aligned square in the photograph's own pixels, decibels; 99 where nothing changed.
        whole_identity: by the whole restoration.
        whole_psnr: likewise.
    """

    size: int
    damage: float | None = None
    identity: float | None = None
    psnr: float | None = None
    whole_identity: float | None = None
    whole_psnr: float | None = None


@dataclass(frozen=True)
class Damaged:
    """Medians over the faces at one share of the degradation; distances are to the clean face.

    Attributes:
        share: of the ranges of the degradation.
        damage: first decile, median and last decile, see `FaceTreatment`.
        identity: of the damaged, the whole restored, the estimated and the default restored face.
        psnr: of the same four, decibels.
    """

    share: float
    damage: tuple[float, ...]
    identity: tuple[float, ...]
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class HarmReport(Report):
    """Both tables."""

    model: str
    model_size: int
    clean_damage: float | None
    planted: list[Planted]
    damaged: list[Damaged]

    def markdown(self) -> str:
        """See `Report.markdown`."""
        lines = [
            f"`{self.model}`, {self.model_size} pixels, `clean_damage` {self.clean_damage}",
            "",
            f"{len(self.planted)} clean faces planted at {SIZES[0]} to {SIZES[1]} pixels, not enlarged:",
            "",
            "| size of the face | faces | identity moved, default | whole | PSNR (dB), default | whole |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        names = ("identity", "whole_identity", "psnr", "whole_psnr")
        edges = (f"up to the model's {self.model_size}", 0, self.model_size), ("larger", self.model_size, np.inf)
        for label, low, high in (*edges, ("all", 0, np.inf)):
            rows = [face for face in self.planted if low < face.size <= high and face.damage is not None]
            if rows:
                means = [fmean(getattr(row, name) for row in rows) for name in names]
                lines.append(
                    f"| {label} | {len(rows)} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.1f} | {means[3]:.1f} |"
                )
        lines += [
            "",
            "Damaged faces at the model's size, medians of input / whole / estimate / default:",
            "",
            "| share of the degradation | damage, deciles 1, 5, 9 | identity distance to the clean face | PSNR (dB) |",
            "| ---: | --- | --- | --- |",
        ]
        for row in self.damaged:
            damage, identity = (
                " / ".join(f"{value:.2f}" for value in values) for values in (row.damage, row.identity)
            )
            decibels = " / ".join(f"{value:.1f}" for value in row.psnr)
            lines.append(f"| {row.share:g} | {damage} | {identity} | {decibels} |")
        return "\n".join(lines) + "\n"


def plant(face: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a photograph `[SIDE,SIDE,3]` uint8 with a face `[S,S,3]` uint8 in its middle, `size` pixels wide."""
    photo = textured_background(rng, SIDE, SIDE)
    shape = (size, size)
    small = cv2.resize(face, shape, interpolation=cv2.INTER_AREA if size < len(face) else cv2.INTER_CUBIC)
    places = np.minimum((np.arange(size) + 0.5) / size, 1 - (np.arange(size) + 0.5) / size)
    rim = np.clip(np.minimum(places, places[:, None]) / RIM, 0, 1)[..., None]
    start = (SIDE - size) // 2
    part = photo[start : start + size, start : start + size]
    part[:] = np.rint(small * rim + part * (1 - rim))
    return photo


def restore_planted(pipe: DifFacePipeline, face: np.ndarray, size: int, seed: int) -> Planted:
    """Plant a face, restore the photograph by default and whole, and compare."""
    photo = plant(face, size, np.random.default_rng(seed))
    restore = partial(restore_photo, pipe, photo, upscale=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no face in photograph")
        default = restore(faces="center", generator=torch.Generator().manual_seed(seed))
    if not default.faces:
        return Planted(size)
    whole = restore(faces=default.faces, generator=torch.Generator().manual_seed(seed), keep_clean=False)
    landmarks = default.faces[0].landmarks

    def cut(picture: Any, side: int) -> torch.Tensor:
        return to_batch(warp(np.asarray(picture), align(landmarks, side), (side, side)) / np.float32(255))

    figures = []
    for result in (default, whole):
        distance = identity_distance(cut(result.image, JUDGED), cut(photo, JUDGED)).item()
        figures += [distance, min(99.0, psnr(cut(result.image, size), cut(photo, size)).item())]
    return Planted(size, default.treatments[0].damage, *figures)


def restore_damaged(pipe: DifFacePipeline, clean: Sequence[np.ndarray], share: float, seed: int) -> Damaged:
    """Damage aligned faces `[S,S,3]` float32 in [0,1], restore them and compare with the clean ones."""
    ranges = DegradationRanges(gray_probability=0).cut(share)
    crops = [
        degrade(face, ranges, np.random.default_rng(seed + row)) if share else face for row, face in enumerate(clean)
    ]
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(crops))]
    answer = pipe(list(crops), generator=generators, output_type="np")
    restored, estimates = (
        [fit_in(np.asarray(face), crop, False) for face, crop in zip(faces, crops, strict=True)]
        for faces in (answer.images, answer.estimates)
    )
    limit = pipe.config.get("clean_damage")
    treatments = [
        choose_treatment(crop, guess, limit, True, 1)
        for crop, guess in zip(crops, np.asarray(answer.estimates), strict=True)
    ]
    mixed = [
        np.clip(treatment.apply(*faces), 0, 1)
        for treatment, *faces in zip(treatments, crops, estimates, restored, strict=True)
    ]
    truth = to_batch(*clean)
    versions = [to_batch(*faces) for faces in (crops, restored, estimates, mixed)]
    return Damaged(
        share,
        tuple(np.quantile([treatment.damage for treatment in treatments], (0.1, 0.5, 0.9)).tolist()),
        tuple(identity_distance(faces, truth).median().item() for faces in versions),
        tuple(psnr(faces, truth).clamp(max=99).median().item() for faces in versions),
    )


def to_batch(*faces: np.ndarray) -> torch.Tensor:
    """Return faces `[S,S,3]` as `[B,3,S,S]` within [0,1]."""
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float().clamp(0, 1)


def measure(pipe: DifFacePipeline, model: str, faces: Sequence[np.ndarray], damaged: int, seed: int) -> HarmReport:
    """Make both tables of aligned faces `[S,S,3]` uint8, the second one of the first `damaged` of them."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*SIZES, len(faces), endpoint=True)
    planted = [
        restore_planted(pipe, face, int(size), seed + row)
        for row, (face, size) in enumerate(zip(tqdm(faces, unit="face"), sizes, strict=True))
    ]
    side = pipe.model_size[0]
    clean = [
        cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        for face in faces[:damaged]
    ]
    rows = [restore_damaged(pipe, clean, share, seed) for share in tqdm(SHARES, unit="share")] if clean else []
    return HarmReport(model, side, pipe.config.get("clean_damage"), planted, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True)
    add_model_option(parser)
    parser.add_argument(
        "--planted", type=int, default=200, help="clean faces planted; the same again where there are less"
    )
    parser.add_argument("--damaged", type=int, default=40, help="faces damaged")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    pipe = load_pipeline(args.model, DifFacePipeline)
    try:
        faces = sample_faces(args.data, args.planted, args.seed)
    except ValueError as error:
        parser.error(str(error))
    report = measure(pipe, args.model, faces, args.damaged, args.seed)
    report.write(args.output, "harm")
    print(report.markdown())


if __name__ == "__main__":
    main()
