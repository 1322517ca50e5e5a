"""Is a restored video steady? Clips of known motion, damaged frame by frame, restored with and without steadiness.

    python -m benchmarks.video --data FOLDER_OF_ALIGNED_FACES --output FOLDER

Cut-out faces move before a painted background: still, panned, zoomed, turned, with a cut, two that cross, one that leaves.
Every frame gets blur, noise and JPEG artifacts of its own, and the clip is coded as H.264 at crf 38. What is measured lies in
the faces. Written to OUTPUT: `video.md`, `video.json`, and `strips.png`, in which a row of pixels is drawn over time.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.backgrounds import textured_background
from benchmarks.detection import cut_out
from benchmarks.models import add_model_option, load_pipeline
from benchmarks.reports import Report
from difface_diffusers import DifFacePipeline
from difface_diffusers.acceleration.processor import processor_name
from difface_diffusers.evaluation.face_metrics import identity_distance, locate
from difface_diffusers.evaluation.steadiness import landmark_jitter, still_error, warping_error
from difface_diffusers.faces.alignment import invert, warp
from difface_diffusers.imaging.files import load_image
from difface_diffusers.training.sources import IMAGE_SUFFIXES
from difface_diffusers.utils.listing import list_files
from difface_diffusers.video.library import load_av
from difface_diffusers.video.reading import open_video
from difface_diffusers.video.restore import restore_video


HEIGHT, WIDTH, RATE = 360, 640, 25
SIDE = 230  # of the aligned square, pixels; its face is 128 wide
CROP = 128  # side of the aligned faces that are judged
KINDS = "still", "pan", "zoom", "turn", "cut", "crossing", "leaving"
STEADINESS = {"frame by frame": 0.0, "steady": 1.0}
MODES = *STEADINESS, "input", "clean"
ROWS = {  # of the table, by the names of `Figures`
    "warping": ("warping error, levels of 255", "{:.2f}"),
    "still": ("change from frame to frame of the still clip, levels", "{:.2f}"),
    "identity": ("identity distance of neighboring frames", "{:.3f}"),
    "landmarks": ("landmark jitter, thousandths of the aligned side", "{:.1f}"),
    "gradient": ("gradients, share of the clean clip's", "{:.3f}"),
    "psnr": ("PSNR, dB", "{:.2f}"),
    "seconds": ("seconds a frame", "{:.2f}"),
}
BLUR, NOISE, QUALITY, CRF = 1.0, 14, 45, "38"


@dataclass(frozen=True)
class Clip:
    """Frames `[H,W,3]` uint8, and for each the matrices `[2,3]` from the aligned square of `CROP` pixels of its faces."""

    kind: str
    frames: list[np.ndarray]
    places: list[list[np.ndarray]]


@dataclass(frozen=True)
class Figures:
    """Of one clip in one mode; see `evaluation.steadiness` and `evaluation.metrics`.

    Attributes:
        warping: warping error, levels of 255.
        still: change from frame to frame, levels; only of what stands still.
        identity: mean distance of neighboring frames.
        landmarks: jitter, thousandths of the aligned side.
        gradient: of the clean clip's gradients.
        psnr: dB; not of the clean clip itself.
        seconds: per frame, where it was restored.
    """

    kind: str
    mode: str
    warping: float
    still: float
    identity: float
    landmarks: float
    gradient: float
    psnr: float
    seconds: float


@dataclass(frozen=True)
class VideoReport(Report):
    """All clips."""

    model: str
    preset: str | None
    processor: str
    threads: int
    frames: int
    figures: list[Figures]

    def markdown(self) -> str:
        """See `Report.markdown`."""
        lines = [
            f"`{self.model}`, preset {self.preset}, clips of {self.frames} frames of {WIDTH} x {HEIGHT}, faces 128 pixels wide;"
            f" {self.processor}, {self.threads} threads. Means over the clips:",
            "",
            "| | " + " | ".join(MODES) + " |",
            "| --- |" + " ---: |" * len(MODES),
        ]
        for name, (label, form) in ROWS.items():
            values = [[getattr(each, name) for each in self.figures if each.mode == mode] for mode in MODES]
            lines.append(f"| {label} | " + " | ".join(_cell(own, form) for own in values) + " |")
        lines += [
            "",
            "The clips:",
            "",
            "| clip | | " + " | ".join(ROWS) + " |",
            "| --- | --- |" + " ---: |" * len(ROWS),
        ]
        for each in self.figures:
            cells = " | ".join(_cell([getattr(each, name)], form) for name, (_, form) in ROWS.items())
            lines.append(f"| {each.kind} | {each.mode} | {cells} |")
        return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], form: str) -> str:
    """Return the mean of those that there are; nothing if there are none."""
    there = [value for value in values if not np.isnan(value)]
    return form.format(np.mean(there)) if there else ""


def make_clip(kind: str, faces: Sequence[np.ndarray], count: int, seed: int) -> Clip:
    """Draw a clip of a kind of motion with aligned faces `[S,S,3]` uint8."""
    rng = np.random.default_rng(seed)
    backgrounds = [textured_background(rng, HEIGHT, WIDTH) for _ in range(2)]
    frames, places = [], []
    for number in range(count):
        turn = number / max(count - 1, 1)
        second = kind == "cut" and number >= count // 2
        frame, matrices = backgrounds[second], []
        for face, matrix in zip(faces[second:], _places(kind, turn), strict=False):
            frame = _draw(frame, face, matrix)
            matrices.append(matrix)
        frames.append(frame)
        places.append(matrices)
    return Clip(kind, frames, places)


def _places(kind: str, turn: float) -> list[np.ndarray]:
    """Return where the faces are when `turn`, 0 .. 1, of the clip is over; the last of them is before the others."""
    x, y, scale, angle = WIDTH / 2, HEIGHT / 2, SIDE / CROP, 0.0
    if kind in ("pan", "cut"):
        x += 120 * (turn - 0.5)
        y += 12 * np.sin(6 * turn)
    elif kind == "zoom":
        scale *= 0.8 + 0.4 * turn
    elif kind == "turn":
        angle = 0.5 * (turn - 0.5)
    elif kind == "leaving":
        x += 450 * turn**2
    elif kind == "crossing":
        return [_place(x + side * 260 * (turn - 0.5), y + 5 * side, scale * 0.8, 0) for side in (1, -1)]
    return [_place(x, y, scale, angle)]


def _place(x: float, y: float, scale: float, angle: float) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([matrix, (x, y) - matrix @ (CROP / 2, CROP / 2)])


def _draw(frame: np.ndarray, face: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    own = matrix.copy()
    own[:, :2] *= CROP / len(face)
    opacity = cut_out(face)
    opacity = cv2.resize(opacity, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    alpha = warp(opacity, own, frame.shape[:2], cv2.BORDER_CONSTANT)[..., None].clip(0, 1)
    drawn = frame * (1 - alpha) + warp(face.astype(np.float32), own, frame.shape[:2]) * alpha
    return drawn.clip(0, 255).round().astype(np.uint8)


def damage(frames: Sequence[np.ndarray], path: Path, seed: int) -> None:
    """Damage each frame in its own way and write the clip."""
    av = load_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": CRF})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(frames):
            noise = np.random.default_rng([seed, number]).normal(0, NOISE, frame.shape)
            noisy = np.clip(cv2.GaussianBlur(frame, (0, 0), BLUR) + noise, 0, 255).astype(np.uint8)
            coded = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1], cv2.IMREAD_COLOR)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coded, format="rgb24")))
        container.mux(stream.encode())


def read_frames(path: Path) -> list[np.ndarray]:
    """Return all frames of a video."""
    with open_video(path) as video:
        return [frame.pixels for frame in video.frames()]


def measure(clip: Clip, frames: list[np.ndarray], mode: str, seconds: float) -> Figures:
    """Return the figures of a clip's frames, as they are after a mode."""
    # What the second scene, or the face that covers the other, begins with is no flicker.
    stop = len(frames) // 2 if clip.kind == "cut" else len(frames)
    inside = np.zeros((CROP, CROP), np.float32)
    inside[round(0.2 * CROP) : round(0.88 * CROP), round(0.2 * CROP) : round(0.8 * CROP)] = 1
    masks = [
        np.any([warp(inside, matrix, (HEIGHT, WIDTH), cv2.BORDER_CONSTANT) > 0.5 for matrix in matrices], axis=0)
        for matrices in clip.places
    ]
    is_whole = [_fits(matrices[-1]) for matrices in clip.places[:stop]]
    shown = slice(0, is_whole.index(False) if False in is_whole else stop)
    crops, clean_crops = (
        [
            warp(frame, invert(matrices[-1]), (CROP, CROP))
            for frame, matrices in zip(own[shown], clip.places[shown], strict=True)
        ]
        for own in (frames, clip.frames)
    )
    faces = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    part = np.s_[round(0.2 * CROP) : round(0.88 * CROP), round(0.2 * CROP) : round(0.8 * CROP)]
    errors = [
        np.square(one[part].astype(float) - other[part]).mean() for one, other in zip(crops, clean_crops, strict=True)
    ]
    return Figures(
        clip.kind,
        mode,
        255 * warping_error(frames[:stop], clip.frames[:stop], masks[:stop]),
        255 * still_error([crop[part] for crop in crops]) if clip.kind == "still" else float("nan"),
        float(identity_distance(faces[1:], faces[:-1]).mean()),
        1000 * landmark_jitter(CROP * locate(faces).numpy(), CROP),
        _gradient([crop[part] for crop in crops]) / _gradient([crop[part] for crop in clean_crops]),
        float(10 * np.log10(255**2 / np.mean(errors))) if np.any(errors) else float("nan"),
        seconds / len(frames),
    )


def _fits(matrix: np.ndarray) -> bool:
    corners = np.array([(0, 0), (CROP, 0), (0, CROP), (CROP, CROP)]) @ matrix[:, :2].T + matrix[:, 2]
    return bool((corners > -0.15 * SIDE).all() and (corners < np.array([WIDTH, HEIGHT]) + 0.15 * SIDE).all())


def _gradient(pictures: Sequence[np.ndarray]) -> float:
    return float(
        np.mean([np.abs(np.diff(picture.astype(float), axis=axis)).mean() for picture in pictures for axis in (0, 1)])
    )


def time_slices(rows: dict[str, list[np.ndarray]], places: list[list[np.ndarray]]) -> np.ndarray:
    """Draw for each mode a row of pixels through the eyes over time, below one another, three pixels a frame."""
    slices = []
    for frames in rows.values():
        lines = [
            warp(frame, invert(matrices[-1]), (CROP, CROP))[round(0.47 * CROP)]
            for frame, matrices in zip(frames, places, strict=True)
        ]
        slices.append(np.stack(lines).repeat(3, axis=0).repeat(3, axis=1))
    return np.concatenate([np.pad(part, ((0, 6), (0, 0), (0, 0)), constant_values=255) for part in slices])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure how steady restored videos are.")
    add_model_option(parser)
    parser.add_argument("--preset", help="of the model")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--frames", type=int, default=32, help="of each clip (default: 32)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which clips (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of faces, damage and noise (default: 0)")
    args = parser.parse_args(argv)
    if args.frames < 6:
        parser.error(f"--frames must be at least 6, got {args.frames}")
    paths = list_files(args.data, IMAGE_SUFFIXES, recursive=False)
    if len(paths) < 2:
        parser.error(f"--data must hold two faces at least, found {len(paths)} in {args.data}")
    pipe = load_pipeline(args.model, DifFacePipeline)
    rng = np.random.default_rng(args.seed)
    figures, strips = [], []
    for number, kind in enumerate(args.kinds):
        faces = [
            np.asarray(load_image(paths[index]).convert("RGB")) for index in rng.choice(len(paths), 2, replace=False)
        ]
        clip = make_clip(kind, faces, args.frames, args.seed + number)
        rows = {"clean": clip.frames}
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.mkv"
            damage(clip.frames, source, args.seed + number)
            rows["input"] = read_frames(source)
            seconds = {}
            for mode, steadiness in STEADINESS.items():
                started, path = time.perf_counter(), Path(folder) / "out.mkv"
                options = {"steadiness": steadiness, "seed": args.seed, "preset": args.preset}
                restore_video(pipe, source, path, codec="ffv1", **options)  # ty: ignore
                seconds[mode] = time.perf_counter() - started
                rows[mode] = read_frames(path)
        for mode, frames in rows.items():
            figures.append(measure(clip, frames, mode, seconds.get(mode, float("nan"))))
            print(figures[-1])
        strips.append(time_slices(rows, clip.places))
    args.output.mkdir(parents=True, exist_ok=True)
    width = max(strip.shape[1] for strip in strips)
    sheet = np.concatenate([np.pad(strip, ((0, 24), (0, width - strip.shape[1]), (0, 0))) for strip in strips])
    Image.fromarray(sheet).save(args.output / "strips.png")
    report = VideoReport(str(args.model), args.preset, processor_name(), torch.get_num_threads(), args.frames, figures)
    report.write(args.output, "video")
    print(report.markdown())


if __name__ == "__main__":
    main()
