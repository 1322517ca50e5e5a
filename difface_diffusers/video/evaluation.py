"""How steady a restored video file is, beside the clean one or what it was restored from."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from ..evaluation.face_metrics import identity_distance, locate
from ..evaluation.metrics import psnr
from ..evaluation.steadiness import landmark_jitter, still_error, warping_error
from ..faces import FaceDetector, YuNetDetector
from ..faces.alignment import align, warp
from ..utils.choices import MIN_FACE_SIZE
from .plan import Survey
from .reading import VideoSource, open_video
from .survey import Surveyor


FACE_SIZE = 128  # of the faces that are judged, pixels
DETECT_EVERY = 5  # frames
BATCH = 32  # faces whose landmarks are found together


def evaluate_video(
    restored: str | Path, reference: str | Path, detector: FaceDetector | None = None
) -> dict[str, float]:
    """Measure a restored video of the same frames and size as its reference.

    Faces are found and followed in the reference. Of each, neighboring frames of the restored video are compared: who it is,
    and how its landmarks tremble.

    Args:
        restored: what is judged.
        reference: the clean video, or the input.
        detector: finds the faces; `YuNetDetector()` unless given.

    Returns:
        Means over the frames: "psnr" in dB; "warping_error" and "change" (from frame to frame, where nothing moves it is
        flicker), both in [0,1]; where there are faces, "identity_distance" of neighboring frames and "landmark_jitter".

    Raises:
        ImportError: an extra is missing, `video`, or where there are faces `metrics`.
        OSError: a file is no video.
        ValueError: the two have frames of different number or size, or fewer than two.
    """
    with open_video(restored) as video, open_video(reference) as clean:
        figures = _compare_frames(video, clean)
        surveyor = Surveyor(
            detector or YuNetDetector(),
            None,
            FACE_SIZE,
            DETECT_EVERY,
            float(clean.average_rate),
            "all",
            MIN_FACE_SIZE,
            "off",
            1.0,
        )
        survey = surveyor.watch(
            ((frame.time, frame.time, frame.pixels) for frame in clean.frames()), lambda done: None
        )
        return figures | _compare_faces(video, survey)


def _compare_frames(video: VideoSource, clean: VideoSource) -> dict[str, float]:
    sums: dict[str, list[float]] = defaultdict(list)
    before = clean_before = np.empty(0)
    frames, clean_frames = video.frames(), clean.frames()
    for number, frame in enumerate(frames):
        other = next(clean_frames, None)
        if other is None or frame.pixels.shape != other.pixels.shape:
            what = "fewer frames" if other is None else f"frames of the shape {list(other.pixels.shape)}"
            raise ValueError(f"`reference` has {what}; `restored` has {list(frame.pixels.shape)} in frame {number}.")
        pixels, clean_pixels = (_unit(each.pixels) for each in (frame, other))
        batch = [torch.from_numpy(each).permute(2, 0, 1)[None] for each in (pixels, clean_pixels)]
        sums["psnr"].append(float(psnr(*batch)))
        if number > 0:
            sums["warping_error"].append(warping_error([before, pixels], [clean_before, clean_pixels]))
            sums["change"].append(still_error([before, pixels]))
        before, clean_before = pixels, clean_pixels
    if next(clean_frames, None) is not None or len(sums["psnr"]) < 2:
        raise ValueError(
            f"`restored` has {len(sums['psnr'])} frames; it must have as many as `reference`, 2 at least."
        )
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _compare_faces(video: VideoSource, survey: Survey) -> dict[str, float]:
    faces: dict[int, list[np.ndarray]] = defaultdict(list)  # by track, those of frames that follow each other
    jitters: list[float] = []
    distances: list[float] = []

    def judge(crops: list[np.ndarray]) -> None:
        if len(crops) < 3:
            return
        batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).clamp(0, 1)
        distances.extend(identity_distance(batch[1:], batch[:-1]).tolist())
        jitters.append(landmark_jitter(FACE_SIZE * locate(batch).numpy(), FACE_SIZE))

    plans = [plan for scene in survey.scenes for plan in scene.faces]
    for number, frame in enumerate(video.frames()):
        pixels = _unit(frame.pixels)
        for plan in plans:
            landmarks, own = plan.at(number), faces[plan.number]
            if landmarks is not None:
                own.append(warp(pixels, align(landmarks, FACE_SIZE), (FACE_SIZE, FACE_SIZE)))
            if own and (landmarks is None or len(own) == BATCH):
                judge(own)
                faces[plan.number] = [] if landmarks is None else own[-2:]
    for crops in faces.values():
        judge(crops)
    if not distances:
        return {}
    return {"identity_distance": float(np.mean(distances)), "landmark_jitter": float(np.mean(jitters))}


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels / np.float32(np.iinfo(pixels.dtype).max)
