"""The frames of a scene, each with its faces restored and put back."""

from collections import defaultdict, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from ..faces import Face
from ..faces.crops import AlignedFaces, align_faces
from ..photos.enlarging import enlarge
from ..photos.pasting import fit_in, put_back
from ..photos.upscale import Upscaler, share_of
from ..pipelines.pipeline_difface import DifFacePipeline
from .face_restorer import FaceRestorer, RestoredFace
from .plan import Scene
from .settings import VideoSettings


@dataclass(frozen=True)
class RestoredFrame:
    """A frame before and after, both enlarged, RGB `[H,W,3]` of the source's type.

    Attributes:
        number: of the frame.
        before: only enlarged.
        after: with its faces restored.
    """

    number: int
    before: np.ndarray
    after: np.ndarray


def restore_scene(
    pipe: DifFacePipeline,
    scene: Scene,
    frames: Iterator[tuple[int, np.ndarray]],
    settings: VideoSettings,
    upscaler: Upscaler,
) -> Generator[RestoredFrame, None, None]:
    """Restore frames of a scene; each comes out as soon as what follows it has been seen, a few dozen frames later.

    Args:
        pipe: restores the faces.
        scene: with what is known of them.
        frames: number and pixels `[H,W,3]` of frames that follow each other.
        settings: of the call.
        upscaler: enlarges the frames.
    """
    restorers = {plan.number: FaceRestorer(pipe, plan, settings) for plan in scene.faces}
    restored: dict[int, dict[int, RestoredFace]] = defaultdict(dict)  # by frame and face
    waiting: deque[tuple[int, np.ndarray]] = deque()

    def collect(face: int, answers: dict[int, RestoredFace]) -> None:
        for number, answer in answers.items():
            restored[number][face] = answer

    for number, pixels in frames:
        waiting.append((number, pixels))
        here = _faces_in(scene, number)
        for face, restorer in restorers.items():
            if face in here:
                crop = _align(pixels, [here[face]], scene, pipe).crops[0]
                collect(face, restorer.add(number, crop))
            else:
                collect(face, restorer.finish())
        while waiting and len(restored[waiting[0][0]]) == len(_faces_in(scene, waiting[0][0])):
            number, pixels = waiting.popleft()
            yield _compose(pipe, scene, number, pixels, restored.pop(number), settings, upscaler)
    for face, restorer in restorers.items():
        collect(face, restorer.finish())
    for number, pixels in waiting:
        yield _compose(pipe, scene, number, pixels, restored[number], settings, upscaler)


def _faces_in(scene: Scene, number: int) -> dict[int, np.ndarray]:
    """Return the landmarks of the faces in a frame, by the face's number."""
    return {plan.number: landmarks for plan in scene.faces if (landmarks := plan.at(number)) is not None}


def _align(pixels: np.ndarray, landmarks: list[np.ndarray], scene: Scene, pipe: DifFacePipeline) -> AlignedFaces:
    faces = [Face((*points.min(axis=0), *points.max(axis=0)), points, 1.0) for points in landmarks]
    return align_faces(pixels, faces, pipe.model_size[0], scene.keep_tint)


def _compose(
    pipe: DifFacePipeline,
    scene: Scene,
    number: int,
    pixels: np.ndarray,
    restored: dict[int, RestoredFace],
    settings: VideoSettings,
    upscaler: Upscaler,
) -> RestoredFrame:
    """Enlarge a frame and put its faces back."""
    size = round(pixels.shape[0] * settings.upscale), round(pixels.shape[1] * settings.upscale)
    before, _ = enlarge(pixels, None, size, upscaler, share_of(settings.background, settings.background_blend))
    after = before.copy()
    landmarks = _faces_in(scene, number)
    aligned = _align(pixels, list(landmarks.values()), scene, pipe)
    answers = [restored[face] for face in landmarks]
    put_back(
        after,
        aligned,
        [answer.estimate for answer in answers],
        [fit_in(answer.restored, crop, scene.keep_tint) for answer, crop in zip(answers, aligned.crops, strict=True)],
        [answer.treatment for answer in answers],
        settings.match_grain,
    )
    return RestoredFrame(number, before, after)
