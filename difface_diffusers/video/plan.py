"""What is known of a video before it is restored: its scenes, and how each face in them is to be treated."""

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..photos.treatment import FaceTreatment
from ..utils.atomic import whole_file


@dataclass(frozen=True)
class Judgement:
    """How a face is treated in all of a scene.

    Attributes:
        start: N, see `DifFacePipeline.__call__`.
        treatment: how much of the restoration is put back.
    """

    start: int
    treatment: FaceTreatment


@dataclass(frozen=True)
class FacePlan:
    """A face through a scene, and what is done to it.

    Attributes:
        number: of the face.
        first: number of the frame in which it appears.
        landmarks: per frame from there on, `[F,5,2]`, steady.
        seen: per frame, whether it is there.
        judgement: how it is treated; `None` judges each frame for itself.
    """

    number: int
    first: int
    landmarks: np.ndarray
    seen: list[bool]
    judgement: Judgement | None

    def at(self, frame: int) -> np.ndarray | None:
        """Return the landmarks in a frame; `None` if the face is not there."""
        index = frame - self.first
        return self.landmarks[index] if 0 <= index < len(self.seen) and self.seen[index] else None


@dataclass(frozen=True)
class Scene:
    """Frames from one cut to the next.

    Attributes:
        first: number of the first.
        stop: number of the one after the last.
        keep_tint: whether only the brightness of the faces changes, as the pictures are gray or of one tint.
        faces: in them.
    """

    first: int
    stop: int
    keep_tint: bool
    faces: list[FacePlan]


@dataclass(frozen=True)
class Survey:
    """A video's frames and scenes.

    Attributes:
        times: when each frame is shown, seconds.
        source_times: when the source shows it; others where the rate was changed.
        scenes: in order.
    """

    times: list[Fraction]
    source_times: list[Fraction]
    scenes: list[Scene]

    def save(self, path: Path) -> None:
        """Write it to a JSON file."""
        scenes = [
            asdict(scene) | {"faces": [asdict(face) | {"landmarks": face.landmarks.tolist()} for face in scene.faces]}
            for scene in self.scenes
        ]
        times = {"times": list(map(str, self.times)), "source_times": list(map(str, self.source_times))}
        with whole_file(path) as file:
            file.write(json.dumps(times | {"scenes": scenes}).encode())

    @classmethod
    def load(cls, path: Path) -> "Survey":
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        scenes = [
            Scene(scene["first"], scene["stop"], scene["keep_tint"], list(map(_face_from_json, scene["faces"])))
            for scene in content["scenes"]
        ]
        times, source_times = ([Fraction(time) for time in content[name]] for name in ("times", "source_times"))
        return cls(times, source_times, scenes)


def _face_from_json(face: dict[str, Any]) -> FacePlan:
    judgement = face["judgement"]
    if judgement is not None:
        judgement = Judgement(judgement["start"], FaceTreatment(**judgement["treatment"]))
    return FacePlan(face["number"], face["first"], np.array(face["landmarks"]), face["seen"], judgement)
