"""Watching a video before anything is restored: where its scenes are, and which faces go through them."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import cv2
import numpy as np

from ..faces import FaceDetector
from ..faces.compositing import keeps_tint
from ..faces.crops import align_faces
from ..faces.selection import select_faces
from ..imaging.pixels import to_uint8
from .cuts import CutFinder
from .face_tracks import FaceTrack, FaceTracker
from .following import side_of
from .plan import FacePlan, Judgement, Scene, Survey
from .smoothing import smooth_landmarks


LONGEST_SIDE = 960  # of the gray frames in which faces are followed, pixels
SAMPLES = 16  # of a face, by which it is judged


class Surveyor:
    """Watches a video frame by frame.

    Args:
        detector: finds faces.
        judge: says how a face is to be treated by some of its crops `[S,S,3]`, float32 in [0,1]; `None` leaves it open.
        face_size: S.
        every: how often faces are looked for, frames.
        rate: frames a second.
        faces: "all", or "largest" of each scene.
        min_face_size: faces of a narrower box are left out, pixels.
        keep_gray: see `restore_photo`.
        steadiness: see `smooth_landmarks`.
    """

    def __init__(
        self,
        detector: FaceDetector,
        judge: Callable[[list[np.ndarray]], Judgement] | None,
        face_size: int,
        every: int,
        rate: float,
        faces: str,
        min_face_size: float,
        keep_gray: str,
        steadiness: float,
    ) -> None:
        self._detector, self._judge, self._face_size, self._every, self._rate = detector, judge, face_size, every, rate
        self._faces, self._min_face_size, self._steadiness = faces, min_face_size, steadiness
        self._keep_gray = keep_gray
        self._cuts = CutFinder()
        self._next_face = 0
        self._scenes: list[Scene] = []
        self._times: list[Fraction] = []
        self._source_times: list[Fraction] = []
        self._begin_scene(0)

    def watch(
        self, frames: Iterable[tuple[Fraction, Fraction, np.ndarray]], on_frame: Callable[[int], None]
    ) -> Survey:
        """Survey a video.

        Args:
            frames: of each when it is shown, when the source shows it, and its pixels `[H,W,3]`, RGB uint8 or uint16.
            on_frame: told the number of frames so far after each of them.
        """
        last = np.empty(0)
        for number, (time, source_time, pixels) in enumerate(frames):
            if self._cuts.is_cut(pixels) and number > 0:
                self._end_scene(last)
                self._begin_scene(number)
            self._times.append(time)
            self._source_times.append(source_time)
            self._waiting.append(_small_gray(pixels))
            if number == self._first or len(self._waiting) > self._every:
                self._look(pixels)
            last = pixels
            on_frame(number + 1)
        if self._times:
            self._end_scene(last)
        return Survey(self._times, self._source_times, self._scenes)

    def _begin_scene(self, number: int) -> None:
        self._first = number
        self._waiting: list[np.ndarray] = []  # gray frames from the last look on
        self._tracker = FaceTracker(self._rate, self._next_face)
        self._samples: dict[int, list[np.ndarray]] = {}
        self._strides: dict[int, int] = {}
        self._looks = 0
        self._tinted = 0

    def _look(self, pixels: np.ndarray) -> None:
        """Find the faces of the newest frame."""
        number = len(self._times) - 1
        shrunk = self._waiting[-1].shape[1] / pixels.shape[1]
        found = select_faces(to_uint8(pixels), self._detector, "all", self._min_face_size)
        numbers = self._tracker.advance(self._waiting, number, [face.landmarks * shrunk for face in found])
        self._waiting = self._waiting[-1:]
        self._looks += 1
        self._tinted += keeps_tint(pixels, self._keep_gray)
        if self._judge is not None:
            crops = align_faces(pixels, found, self._face_size, False).crops
            for face, crop in zip(numbers, crops, strict=True):
                self._keep_sample(face, crop)

    def _keep_sample(self, face: int, crop: np.ndarray) -> None:
        """Keep crops that are evenly spread over the scene, however long it is."""
        samples, stride = self._samples.setdefault(face, []), self._strides.setdefault(face, 1)
        if self._looks % stride == 0:
            samples.append(crop)
        if len(samples) > SAMPLES:
            del samples[::2]
            self._strides[face] *= 2

    def _end_scene(self, last: np.ndarray) -> None:
        if len(self._waiting) > 1:
            self._look(last)
        keep_tint = 2 * self._tinted > self._looks
        grow = last.shape[1] / self._waiting[-1].shape[1]
        tracks = self._tracker.tracks
        if self._faces == "largest" and tracks:
            tracks = [max(tracks, key=lambda track: sum(map(side_of, track.landmarks)))]
        faces = [self._plan(track, grow) for track in tracks]
        self._scenes.append(Scene(self._first, len(self._times), keep_tint, faces))
        self._next_face += len(self._tracker.tracks)

    def _plan(self, track: FaceTrack, grow: float) -> FacePlan:
        steady = smooth_landmarks(track.landmarks, track.seen, track.motions, self._steadiness)
        judgement = None if self._judge is None else self._judge(self._samples[track.number])
        return FacePlan(track.number, track.first, np.stack(steady) * grow, track.seen, judgement)


def _small_gray(frame: np.ndarray) -> np.ndarray:
    """Return a frame as it is followed: gray, uint8, its longest side `LONGEST_SIDE` at most."""
    gray = cv2.cvtColor(to_uint8(frame), cv2.COLOR_RGB2GRAY)
    scale = min(1.0, LONGEST_SIDE / max(gray.shape))
    if scale == 1:
        return gray
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
