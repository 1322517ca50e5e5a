"""How well faces are found: the table of recall, landmark errors and false alarms by size and by rotation.

    python -m benchmarks.detection --data FOLDER_OF_ALIGNED_FACES --output FOLDER

Faces aligned like FFHQ are planted in painted backgrounds, so that place, size and landmarks of each are known. Written
to OUTPUT: `detection.md`, `detection.json` (every face) and annotated pictures. Needs dlib from the extra `metrics`.

*Convention*: coordinates are (x, y), x to the right, y down, continuous: the middle of the first pixel is (0.5, 0.5). A
crop's own coordinates run from 0 to 1 over its side. Angles are degrees, positive turns clockwise as seen.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.backgrounds import textured_background
from difface_diffusers.evaluation.face_metrics import locate
from difface_diffusers.faces import Face, FaceDetector, YuNetDetector
from difface_diffusers.faces.alignment import transform
from difface_diffusers.imaging.files import load_image
from difface_diffusers.training.sources import IMAGE_SUFFIXES
from difface_diffusers.utils.listing import list_files


SIZE_BINS = (24, 32, 48, 96, 200, 450, 900)  # pixels; the first and the last are the limits of what is planted
ANGLE_BINS = (0, 10, 20, 30)
MOST_FACES = 6
PICTURE_WIDTHS = (640, 2400)
ASPECTS = (4 / 3, 3 / 2, 1, 3 / 4)
# Left, top, right, bottom of the face in an aligned crop: mean of YuNet's boxes on 100 upright ones (width +-0.03).
FACE_BOX = (0.213, 0.173, 0.779, 0.929)
FACE_WIDTH = FACE_BOX[2] - FACE_BOX[0]
REGIMES = {"crop": 1.0, "face": FACE_WIDTH}  # what "size" is the width of, as a fraction of the crop's side
MATCH_DISTANCE, MATCH_IOU = 0.35, 0.4  # a find is a planted face if nearer (face widths) or overlapping more than this
FEATHER = 0.14  # width of the soft rim of a planted crop, as a fraction of half its side
CUT_OUT_SIDE = 128
EXAMPLES, EXAMPLE_SIDE = 4, 1600  # annotated pictures of each regime, and their longest side at most

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Source:
    """An aligned face to plant.

    Attributes:
        name: Of its file.
        crop: uint8 RGB `[S,S,3]`.
        opacity: float32 `[s,s]` in [0, 1], 1 on the head and 0 where the crop shows what is behind it.
        landmarks: `[5,2]` in crop coordinates, in the order of `Face`.
    """

    name: str
    crop: np.ndarray
    opacity: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Planted:
    """A face in a picture: size as the regime means it, all lengths in pixels, box upright whatever the angle."""

    name: str
    size: float
    angle: float
    face_width: float
    box: Box
    landmarks: np.ndarray


@dataclass(frozen=True)
class Look:
    """What a detector made of one picture; `matched` goes by the index of the planted face."""

    planted: list[Planted]
    matched: dict[int, Face]
    false_alarms: list[Face]
    seconds: float

    def error(self, index: int) -> float | None:
        """Mean distance of the five landmarks of a planted face in percent of its width, `None` if it was missed."""
        face, found = self.planted[index], self.matched.get(index)
        if found is None:
            return None
        return float(100 * np.linalg.norm(found.landmarks - face.landmarks, axis=1).mean() / face.face_width)


def read_sources(folder: Path) -> list[Source]:
    """Read all aligned faces of a folder, by name.

    Raises:
        ValueError: The folder holds no image, or one that is not square.
    """
    paths = list_files(folder, IMAGE_SUFFIXES, recursive=False)
    if not paths:
        raise ValueError(f"`data` must be a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none in {folder}")
    crops = [np.array(load_image(path).convert("RGB")) for path in paths]
    for path, crop in zip(paths, crops, strict=True):
        if crop.shape[0] != crop.shape[1]:
            raise ValueError(f"`data` must hold square, aligned faces, {path} has {list(crop.shape[:2])} pixels")
    return [
        Source(path.name, crop, cut_out(crop), find_landmarks(crop)) for path, crop in zip(paths, crops, strict=True)
    ]


def find_landmarks(crop: np.ndarray) -> np.ndarray:
    """Find the five landmarks of an aligned face `[S,S,3]` by dlib's 68 points; returns `[5,2]` in crop coordinates."""
    points = locate(torch.from_numpy(crop).permute(2, 0, 1)[None] / 255)[0].numpy()
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def cut_out(crop: np.ndarray) -> np.ndarray:
    """Separate a head from what is behind it; returns the opacity of the crop, float32 `[s,s]` in [0, 1]."""
    small = cv2.resize(crop, (CUT_OUT_SIDE, CUT_OUT_SIDE), interpolation=cv2.INTER_AREA)
    x = (np.arange(CUT_OUT_SIDE, dtype=np.float32) + 0.5) / CUT_OUT_SIDE
    y = x[:, None]
    labels = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    labels[(((x - 0.5) / 0.42) ** 2 + ((y - 0.5) / 0.56) ** 2 < 1) | ((y > 0.9) & (abs(x - 0.5) < 0.35))] = (
        cv2.GC_PR_FGD
    )
    labels[((x - 0.5) / 0.27) ** 2 + ((y - 0.55) / 0.38) ** 2 < 1] = cv2.GC_FGD
    labels[(y < 0.75) & (abs(x - 0.5) > 0.47)] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # grabCut takes its random numbers from OpenCV's own generator; it ignores the rectangle
    cv2.grabCut(small, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    head = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    head = cv2.morphologyEx(cv2.morphologyEx(head, cv2.MORPH_OPEN, np.ones((3, 3))), cv2.MORPH_CLOSE, np.ones((5, 5)))
    # Hair and clothes often reach the crop's border: a rounded rim fades out instead of a straight edge.
    rim = ((1 - (abs(2 * x - 1) ** 4 + abs(2 * y - 1) ** 4) ** 0.25) / FEATHER).clip(0, 1)
    return cv2.GaussianBlur(head.astype(np.float32), (0, 0), 0.8) * rim**2 * (3 - 2 * rim)


def place(rng: np.random.Generator, extents: np.ndarray, width: int, height: int) -> tuple[np.ndarray, int, int]:
    """Place squares of sides `extents` `[K]` inside a picture without overlap; the picture grows until they fit.

    Returns:
        The middles `[K,2]`, and the width and height of the picture in pixels.
    """
    while True:
        middles = np.full((len(extents), 2), np.nan)
        for index in np.argsort(-extents):  # the largest first: it is the hardest to place
            half = extents[index] / 2
            room = np.array([width, height]) - 2 * half
            tries = half + rng.random((100, 2)) * room
            apart = np.abs(tries[:, None] - middles).max(axis=2) >= half + extents / 2  # [100,K]
            free = (apart | np.isnan(middles[:, 0])).all(axis=1)
            if (room < 0).any() or not free.any():
                break
            middles[index] = tries[free.argmax()]
        else:
            return middles, width, height
        width, height = round(width * 1.15), round(height * 1.15)


def crop_to_photo(middle: np.ndarray, side: float, angle: float) -> np.ndarray:
    """Return the matrix `[2,3]` from crop coordinates to pixels of a photo in which the crop has this middle and side."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = side * np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, middle - turn @ (0.5, 0.5)])


def plant(picture: np.ndarray, crop: np.ndarray, opacity: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a copy of `picture` `[H,W,3]` with a crop `[S,S,3]` and its opacity `[s,s]` at `matrix`, wholly inside."""
    # Shrunk by area to the size it is to have, so that the warp, which does not average, has little left to shrink.
    pixels = min(len(crop), max(1, round(np.sqrt(np.linalg.det(matrix[:, :2])))))
    crop, opacity = (cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA) for image in (crop, opacity))
    corners = transform(np.array([(0, 0), (0, 1), (1, 0), (1, 1)]), matrix)
    left, top = np.floor(corners.min(axis=0) + 1e-6).astype(int)
    right, bottom = np.ceil(corners.max(axis=0) - 1e-6).astype(int)
    # OpenCV counts from the middle of the first pixel: index i is (i + 0.5) / pixels in the crop.
    warp = matrix / (pixels, pixels, 1)
    warp[:, 2] = transform(np.array([[0.5, 0.5]]), warp) - (left + 0.5, top + 0.5)
    size = (int(right - left), int(bottom - top))
    face = cv2.warpAffine(crop, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(opacity, warp, size, flags=cv2.INTER_LINEAR)[..., None]  # [h,w,1], 0 outside
    planted = picture.copy()
    patch = planted[top:bottom, left:right]
    patch[:] = (patch + alpha * (face.astype(np.float32) - patch)).round().astype(np.uint8)
    return planted


def compose(rng: np.random.Generator, sources: list[Source], size_of: float) -> tuple[np.ndarray, list[Planted]]:
    """Plant 1 to 6 faces, log-uniform in size, turned by up to 30 degrees, in a background.

    Args:
        rng: Decides everything.
        sources: What to choose from.
        size_of: What the sizes are the width of, as a fraction of the crop's side.

    Returns:
        The picture, uint8 RGB `[H,W,3]`, and what is in it.
    """
    width = round(np.exp(rng.uniform(*np.log(PICTURE_WIDTHS))))
    height = round(width / ASPECTS[rng.integers(len(ASPECTS))])
    count = rng.integers(1, MOST_FACES + 1)
    sizes = np.exp(rng.uniform(*np.log((SIZE_BINS[0], SIZE_BINS[-1])), count))
    angles = rng.uniform(-ANGLE_BINS[-1], ANGLE_BINS[-1], count)
    sides = sizes / size_of
    extents = sides * (np.cos(np.radians(angles)) + np.sin(np.radians(np.abs(angles))))
    middles, width, height = place(rng, extents, width, height)
    picture = textured_background(rng, height, width)
    planted = []
    for index in range(count):
        source = sources[rng.integers(len(sources))]
        matrix = crop_to_photo(middles[index], sides[index], angles[index])
        picture = plant(picture, source.crop, source.opacity, matrix)
        middle = transform(np.array([FACE_BOX[:2], FACE_BOX[2:]]), matrix).mean(axis=0)
        half = sides[index] * np.subtract(FACE_BOX[2:], FACE_BOX[:2]) / 2
        box = (*(middle - half).tolist(), *(middle + half).tolist())
        size, angle, face_width = float(sizes[index]), float(angles[index]), float(2 * half[0])
        planted.append(Planted(source.name, size, angle, face_width, box, transform(source.landmarks, matrix)))
    return picture, planted


def match(found: Sequence[Face], planted: Sequence[Planted]) -> dict[int, Face]:
    """Pair finds with planted faces, one to one: the surest find first, each with the nearest face that is left."""
    matched: dict[int, Face] = {}
    for find in sorted(found, key=lambda face: -face.score):
        distances = {
            index: np.linalg.norm(find.landmarks.mean(axis=0) - face.landmarks.mean(axis=0)) / face.face_width
            for index, face in enumerate(planted)
            if index not in matched
        }
        near = [i for i in distances if distances[i] < MATCH_DISTANCE or _iou(find.box, planted[i].box) > MATCH_IOU]
        if near:
            matched[min(near, key=distances.__getitem__)] = find
    return matched


def look(detector: FaceDetector, picture: np.ndarray, planted: list[Planted]) -> Look:
    """Run a detector on a picture `[H,W,3]` and compare."""
    start = time.perf_counter()
    found = detector.detect(picture)
    seconds = time.perf_counter() - start
    matched = match(found, planted)
    false_alarms = [face for face in found if all(face is not hit for hit in matched.values())]
    return Look(planted, matched, false_alarms, seconds)


def table(looks: dict[str, list[Look]]) -> str:
    """Return the Markdown table: for every regime all faces, then those of each size and of each rotation."""
    lines = [
        "| faces | planted | recall | landmark error (% of face width) | false alarms per picture | time (ms) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for regime, pictures in looks.items():
        faces = [(face, one.error(index)) for one in pictures for index, face in enumerate(one.planted)]
        alarms = np.mean([len(one.false_alarms) for one in pictures])
        milliseconds = 1000 * np.median([one.seconds for one in pictures])
        whole = _row(f"**{regime}: all**", [error for _, error in faces])
        lines.append(f"{whole} {alarms:.3f} | {milliseconds:.0f} |")
        sizes, angles = [face.size for face, _ in faces], [abs(face.angle) for face, _ in faces]
        for values, edges, unit in ((sizes, SIZE_BINS, "px"), (angles, ANGLE_BINS, "°")):
            bins = np.digitize(values, edges[1:-1])
            for index, (low, high) in enumerate(pairwise(edges)):
                errors = [error for (_, error), place in zip(faces, bins, strict=True) if place == index]
                lines.append(_row(f"{regime}: {low} to {high} {unit}", errors) + " | |")
    note = (
        f"crop: the size is the side of the aligned crop, face: the width of the face, {FACE_WIDTH:.3f} of that side. "
    )
    note += (
        "The landmark error is the mean over the five landmarks, the median over the faces found; so is the time over "
    )
    note += "the pictures. True landmarks by dlib."
    return "\n".join([*lines, "", note, ""])


def records(looks: dict[str, list[Look]]) -> list[dict[str, object]]:
    """Return one record for every planted face, for `detection.json`."""
    return [
        {"regime": regime, "picture": picture, "name": face.name, "size": face.size, "angle": face.angle}
        | {"box": face.box, "error": one.error(index)}
        for regime, pictures in looks.items()
        for picture, one in enumerate(pictures)
        for index, face in enumerate(one.planted)
    ]


def annotate(picture: np.ndarray, one: Look) -> np.ndarray:
    """Draw what was planted (green, or red if missed) and found (yellow, false alarms magenta) into a copy."""
    drawn = picture.copy()
    thickness = max(1, max(picture.shape) // 800)
    things: list[tuple[Planted | Face, tuple[int, int, int]]] = [
        (face, (0, 255, 0) if index in one.matched else (255, 0, 0)) for index, face in enumerate(one.planted)
    ]
    things += [(face, (255, 255, 0)) for face in one.matched.values()]
    things += [(face, (255, 0, 255)) for face in one.false_alarms]
    for face, color in things:
        left, top, right, bottom = (round(edge) for edge in face.box)
        cv2.rectangle(drawn, (left, top), (right, bottom), color, thickness)
        for x, y in face.landmarks.astype(int).tolist():  # the pixel that holds the point
            cv2.circle(drawn, (x, y), 2 * thickness, color, -1)
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the detector on planted faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description="Recall and landmark errors of the face detector."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pictures", type=int, default=60, help="pictures of each regime (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures (default: 0)")
    args = parser.parse_args(argv)
    for name, lowest in (("pictures", 1), ("seed", 0)):
        if getattr(args, name) < lowest:
            parser.error(f"--{name} must be at least {lowest}, got {getattr(args, name)}")

    detector = YuNetDetector()
    sources = read_sources(args.data)
    args.output.mkdir(parents=True, exist_ok=True)
    looks: dict[str, list[Look]] = {regime: [] for regime in REGIMES}
    for number, (regime, size_of) in enumerate(REGIMES.items()):
        for index in tqdm(range(args.pictures), desc=regime):
            picture, planted = compose(np.random.default_rng([args.seed, number, index]), sources, size_of)
            looks[regime].append(look(detector, picture, planted))
            if index < EXAMPLES:
                example = Image.fromarray(annotate(picture, looks[regime][-1]))
                example.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
                example.save(args.output / f"{regime}_{index}.png")
    (args.output / "detection.md").write_text(table(looks), encoding="utf-8")
    (args.output / "detection.json").write_text(json.dumps(records(looks), indent=2) + "\n", encoding="utf-8")
    print(table(looks))
    return 0


def _row(name: str, errors: list[float | None]) -> str:
    hits = [error for error in errors if error is not None]
    recall = f"{len(hits) / len(errors):.3f}" if errors else ""
    return f"| {name} | {len(errors)} | {recall} | {f'{np.median(hits):.2f}' if hits else ''} |"


def _iou(one: Box, other: Box) -> float:
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


if __name__ == "__main__":
    raise SystemExit(main())
