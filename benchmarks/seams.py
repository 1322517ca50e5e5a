"""Is the edge of a restored face seen? The step that the restoration adds along the edge of its mask.

    python -m benchmarks.seams --data FOLDER_OF_ALIGNED_FACES --output FOLDER

Cut-out faces are set before black, white, gray and textured backgrounds, damaged, and restored. At a contour of the mask the
step is the difference between what was changed one pixel inside and one pixel outside of it, in luma, of 255 levels, in the
enlarged picture. Written to OUTPUT: `seams.md`, `seams.json`, and `seams.png` with the worst. `ellipse` is the fixed mask of
release 0.1.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.backgrounds import textured_background
from benchmarks.detection import cut_out
from benchmarks.faces import sample_faces
from benchmarks.models import add_model_option, load_pipeline
from benchmarks.reports import Report
from difface_diffusers import DifFacePipeline
from difface_diffusers.degradation.blind import DegradationRanges, degrade
from difface_diffusers.faces import YuNetDetector
from difface_diffusers.faces.alignment import invert, transform, warp
from difface_diffusers.faces.compositing import WEIGHTS, add_changes
from difface_diffusers.faces.crops import AlignedFaces, align_faces, canvas_to_faces, landmarks_in_crops
from difface_diffusers.faces.masks import fitting_mask
from difface_diffusers.photos.pasting import fit_in
from difface_diffusers.photos.upscale import upscale_lanczos


SIDE = 400  # of a composite, pixels
SIZES = 90, 300  # of the aligned square in it
UPSCALE = 2
BACKGROUNDS = "black", "white", "gray", "textured"
SHARES = 0, 0.15, 0.3, 0.5, 0.8  # of the training's degradation
CONTOURS = 0.05, 0.25, 0.5  # of the mask; the first is where the change ends
WORST, WORST_COLUMNS = 20, 4  # in the picture
VIEW = 200  # side of each part of it

Mask = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Seam:
    """The mean absolute step at each contour of one composite, by mask."""

    background: str
    share: float
    steps: dict[str, list[float]]


@dataclass(frozen=True)
class SeamReport(Report):
    """All composites."""

    model: str
    seams: list[Seam]

    def markdown(self) -> str:
        """See `Report.markdown`."""
        lines = [
            f"`{self.model}`, {len(self.seams)} composites, mean absolute step in levels of 255 at a contour of the mask",
            "",
            "| mask | background | " + " | ".join(f"{contour:g}" for contour in CONTOURS) + " |",
            "| --- | --- |" + " ---: |" * len(CONTOURS),
        ]
        for mask in MASKS:
            for background in (*BACKGROUNDS, "all"):
                rows = [seam.steps[mask] for seam in self.seams if background in (seam.background, "all")]
                if rows:
                    means = " | ".join(f"{value:.2f}" for value in np.nanmean(rows, axis=0))
                    lines.append(f"| {mask} | {background} | {means} |")
        return "\n".join(lines) + "\n"


def fixed_ellipse(landmarks: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the mask `[S,S]` of earlier releases, which heeds neither."""
    places = (np.arange(len(change), dtype=np.float32) + 0.5) / len(change)
    across, down = np.abs(places - 0.5) / 0.41, np.abs(places - 0.53) / 0.45
    inside = np.clip((1 - (across**3 + down[:, None] ** 3) ** np.float32(1 / 3)) / 0.25, 0, 1)
    return inside * inside * (3 - 2 * inside)


MASKS: dict[str, Mask] = {"ellipse": fixed_ellipse, "fitting": fitting_mask}


def compose_photo(face: np.ndarray, background: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Set a cut-out face `[S,S,3]` uint8 before a background and damage all of it; `[SIDE,SIDE,3]` uint8."""
    level = {"black": 0.0, "white": 255.0, "gray": 128.0}.get(background)
    photo = (
        textured_background(rng, SIDE, SIDE).astype(np.float32) if level is None else np.full((SIDE, SIDE, 3), level)
    )
    size = int(rng.integers(*SIZES))
    face, opacity = (
        cv2.resize(values.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        for values in (face, cut_out(face))
    )
    start = (SIDE - size) // 2
    part = photo[start : start + size, start : start + size]
    part[:] = face * opacity[..., None] + part * (1 - opacity[..., None])
    photo = photo.astype(np.float32) / 255
    if share:
        ranges, small = DegradationRanges(gray_probability=0).cut(share), size / SIDE
        scaled = {
            name: tuple(small * value for value in getattr(ranges, name)) for name in ("blur_sigma", "downscale")
        }
        scaled["downscale"] = tuple(max(0.8, value) for value in scaled["downscale"])
        photo = degrade(photo, dataclasses.replace(ranges, **scaled), rng)
    return np.rint(photo.clip(0, 1) * 255).astype(np.uint8)


def paste(
    photo: np.ndarray, aligned: AlignedFaces, restored: np.ndarray, mask_of: Mask
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the enlarged photograph before and after, and the mask in it."""
    before = upscale_lanczos(photo, (UPSCALE * photo.shape[0], UPSCALE * photo.shape[1]))
    after = before.copy()
    (crop,), (landmarks,) = aligned.crops, landmarks_in_crops(aligned)
    mask = mask_of(landmarks, restored - crop)
    (matrix,) = canvas_to_faces(after, aligned)
    add_changes(after, [restored - crop], [mask], [matrix])
    return before, after, np.clip(warp(mask, invert(matrix), after.shape[:2], cv2.BORDER_CONSTANT), 0, 1)


def step_at(before: np.ndarray, after: np.ndarray, mask: np.ndarray, contour: float) -> float:
    """Return the mean absolute step of `after - before`, `[H,W,3]`, across a contour of the mask; NaN if there is none."""
    change = ((after.astype(np.float32) - before) @ WEIGHTS).astype(np.float32)
    slopes = np.stack([cv2.Sobel(mask, cv2.CV_32F, 1, 0), cv2.Sobel(mask, cv2.CV_32F, 0, 1)], axis=-1)
    found, _ = cv2.findContours((mask > contour).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([line[:, 0] for line in found] or [np.empty((0, 2), np.int32)])
    if len(points) == 0:
        return float("nan")
    inward = slopes[points[:, 1], points[:, 0]]
    inward = inward / np.maximum(np.linalg.norm(inward, axis=1, keepdims=True), 1e-6)
    inside, outside = (
        cv2.remap(change, *(points + sign * inward).astype(np.float32).T[:, None], cv2.INTER_LINEAR)
        for sign in (1, -1)
    )
    return float(np.abs(inside - outside).mean())


def measure(
    pipe: DifFacePipeline, model: str, faces: Sequence[np.ndarray], seed: int
) -> tuple[SeamReport, Image.Image]:
    """Compose, restore and measure a picture of each face `[S,S,3]` uint8; return the worst in one picture too."""
    detector, rng, seams, views = YuNetDetector(), np.random.default_rng(seed), [], []
    for row, face in enumerate(tqdm(faces, unit="face")):
        background, share = BACKGROUNDS[row % len(BACKGROUNDS)], SHARES[row % len(SHARES)]
        photo = compose_photo(face, background, share, rng)
        found = detector.detect(photo)[:1]
        if not found:
            continue
        aligned = align_faces(photo, found, pipe.model_size[0], keep_tint=False)
        (crop,) = aligned.crops
        answer = pipe(crop, generator=torch.Generator().manual_seed(seed + row), output_type="np")
        restored = fit_in(np.asarray(answer.images)[0], crop, keep_tint=False)
        pictures = {name: paste(photo, aligned, restored, mask_of) for name, mask_of in MASKS.items()}
        steps = {name: [step_at(*picture, contour) for contour in CONTOURS] for name, picture in pictures.items()}
        seams.append(Seam(background, share, steps))
        (matrix,) = canvas_to_faces(pictures["fitting"][0], aligned)
        views.append(view(matrix, len(crop), *(picture[1] for picture in pictures.values())))
    order = np.argsort([-seam.steps["fitting"][0] for seam in seams])[:WORST]
    return SeamReport(model, seams), sheet([views[index] for index in order])


def view(matrix: np.ndarray, side: int, *pictures: np.ndarray) -> np.ndarray:
    """Return the surroundings of a face in several pictures side by side, `[VIEW,VIEW*len(pictures),3]`."""
    corners = transform(np.array([(0, 0), (side, side)]), invert(matrix))
    (left, top), (right, bottom) = np.clip(corners, 0, pictures[0].shape[0]).astype(int)
    return np.concatenate([cv2.resize(picture[top:bottom, left:right], (VIEW, VIEW)) for picture in pictures], axis=1)


def sheet(views: list[np.ndarray]) -> Image.Image:
    """Lay views of one size out in rows."""
    blank = [np.zeros_like(views[0])] * (-len(views) % WORST_COLUMNS)
    rows = [
        np.concatenate((views + blank)[row : row + WORST_COLUMNS], axis=1)
        for row in range(0, len(views), WORST_COLUMNS)
    ]
    return Image.fromarray(np.concatenate(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True)
    add_model_option(parser)
    parser.add_argument("--composites", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        faces = sample_faces(args.data, args.composites, args.seed)
    except ValueError as error:
        parser.error(str(error))
    pipe = load_pipeline(args.model, DifFacePipeline)
    report, worst = measure(pipe, args.model, faces, args.seed)
    report.write(args.output, "seams")
    worst.save(args.output / "seams.png")
    print(report.markdown())


if __name__ == "__main__":
    main()
