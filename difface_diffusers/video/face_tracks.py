"""The faces of a scene: found in every few frames, followed in between, each with a number of its own."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..faces.alignment import estimate_similarity
from .following import follow, looks_of, side_of


NEAR = 0.3  # of the face's square: how far a face may be from where it was expected
NEAR_AGAIN = 1.5  # the same after it was not seen for a while
ALIKE = 0.5  # correlation of what a face looks like, from which it is the same one
UNMISTAKABLE = 0.06  # so near to where it was expected that it may look different
REMEMBERED = 1.0  # seconds for which a face may be out of sight, or not be found where flow follows it


@dataclass
class FaceTrack:
    """One face through a scene.

    Attributes:
        number: of the track.
        first: number of the frame that it begins in.
        landmarks: per frame from there on, `[5,2]` as of `Face`; where the face is not seen, as it was last.
        seen: per frame, whether the face is there.
        motions: per frame the similarity `[2,3]` that took the face there from the frame before, by optical flow alone; `None`
            where that cannot be told.
    """

    number: int
    first: int
    landmarks: list[np.ndarray] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)
    motions: list[np.ndarray | None] = field(default_factory=list)

    @property
    def stop(self) -> int:
        """Number of the frame after its last."""
        return self.first + len(self.landmarks)

    def extend(self, landmarks: Sequence[np.ndarray], followed: Sequence[np.ndarray]) -> None:
        """Add frames in which the face is seen.

        Args:
            landmarks: in them.
            followed: where flow alone takes the landmarks, from those in the frame before the first on; as far as it does.
        """
        motions = [estimate_similarity(before, after) for before, after in itertools.pairwise(followed)]
        self.landmarks += landmarks
        self.seen += [True] * len(landmarks)
        self.motions += [*motions, *[None] * len(landmarks)][: len(landmarks)]

    def extend_unseen(self, stop: int) -> None:
        """Add frames in which it is not seen."""
        missing = stop - self.stop
        self.landmarks += [self.landmarks[-1]] * missing
        self.seen += [False] * missing
        self.motions += [None] * missing


@dataclass
class _Open:
    """A track that may go on.

    Attributes:
        track: it; it ends where the face was seen last.
        looks: see `looks_of`, when it was found last.
        found: number of the frame that it was found in last.
    """

    track: FaceTrack
    looks: np.ndarray
    found: int


class FaceTracker:
    """Joins the faces that are found in every few frames of a scene to tracks.

    From one look to the next each face is followed forth from where it was and back from where it is. What counts is the mean
    of both, weighted by how near they are: so a track goes through all places where the face was found, with no lag.

    Args:
        rate: frames a second.
        first_number: of the tracks.

    Attributes:
        tracks: all so far, those that have ended too.
    """

    def __init__(self, rate: float, first_number: int) -> None:
        self._patience = max(1, round(REMEMBERED * rate))
        self._first_number = first_number
        self._open: list[_Open] = []
        self.tracks: list[FaceTrack] = []

    def advance(self, frames: Sequence[np.ndarray], number: int, faces: Sequence[np.ndarray]) -> list[int]:
        """Go on to the next look.

        Args:
            frames: gray, uint8 `[H,W]`: all from the last look, whose frame is the first of them, to this one; this one alone
                at the beginning.
            number: of the last of them.
            faces: landmarks `[5,2]` of the faces found in it.

        Returns:
            The number of the track of each of the faces.
        """
        forth, numbers = {}, []
        for entry in self._open:
            is_here = entry.track.stop == number - len(frames) + 2  # it was seen in the first of the frames
            forth[id(entry)] = follow(frames, entry.track.landmarks[-1]) if is_here else []
        pairs = self._match(frames, number, faces, forth)
        for index, landmarks in enumerate(faces):
            entry, looks = pairs.get(index), looks_of(frames[-1], landmarks)
            back = follow(frames[::-1], landmarks)[: len(frames) - 2]
            if entry is None:
                numbers.append(self._begin(number, landmarks, looks, _while_alike(frames[-2::-1], back, looks)))
                continue
            numbers.append(entry.track.number)
            there = forth.pop(id(entry))
            last = entry.track.landmarks[-1]
            if entry.track.stop == number - len(frames) + 2:
                between = _between(last, there, landmarks, back, len(frames) - 2)
                entry.track.extend([*between, landmarks], [last, *there])
            else:
                back = _while_alike(frames[-2::-1], back, looks)
                entry.track.extend_unseen(number - len(back))
                _extend_back(entry.track, back, landmarks)
            entry.looks, entry.found = looks, number
        for entry in self._open:
            if number - entry.found <= self._patience:
                there = _while_alike(frames[1:], forth.get(id(entry), []), entry.looks)
                entry.track.extend(there, [entry.track.landmarks[-1], *there])
        self._open = [entry for entry in self._open if number - entry.track.stop < self._patience]
        return numbers

    def _match(
        self,
        frames: Sequence[np.ndarray],
        number: int,
        faces: Sequence[np.ndarray],
        forth: dict[int, list[np.ndarray]],
    ) -> dict[int, _Open]:
        """Return the open track of each face that has one, by the face's index."""
        candidates = []
        for entry in self._open:
            there = forth[id(entry)]
            expected = there[-1] if there else entry.track.landmarks[-1]
            followed = bool(there) and len(there) == len(frames) - 1
            for index, landmarks in enumerate(faces):
                distance = np.linalg.norm(landmarks - expected, axis=1).mean() / side_of(expected)
                alike = float(looks_of(frames[-1], landmarks) @ entry.looks)
                sure = alike >= ALIKE or (followed and distance < UNMISTAKABLE)
                if sure and distance < (NEAR if followed else NEAR_AGAIN):
                    candidates.append((distance / NEAR + 1 - alike, len(candidates), entry, index))
        pairs: dict[int, _Open] = {}
        taken: set[int] = set()
        for _, _, entry, index in sorted(candidates, key=lambda candidate: candidate[:2]):
            if index not in pairs and id(entry) not in taken:
                pairs[index] = entry
                taken.add(id(entry))
        return pairs

    def _begin(self, number: int, landmarks: np.ndarray, looks: np.ndarray, back: list[np.ndarray]) -> int:
        """Begin a track in the first frame that a new face can be followed back to; return its number."""
        track = FaceTrack(self._first_number + len(self.tracks), number - len(back))
        _extend_back(track, back, landmarks)
        self.tracks.append(track)
        self._open.append(_Open(track, looks, number))
        return track.number


def _extend_back(track: FaceTrack, back: list[np.ndarray], landmarks: np.ndarray) -> None:
    """Add the frames in which a face was followed back from where it was found, and that one."""
    path = [*back[::-1], landmarks]
    track.extend(path[:1], [])
    track.extend(path[1:], path)


def _while_alike(frames: Sequence[np.ndarray], path: list[np.ndarray], looks: np.ndarray) -> list[np.ndarray]:
    """Return a path through frames as far as what is seen there looks like the face."""
    for step, (frame, landmarks) in enumerate(zip(frames, path, strict=False)):
        if looks_of(frame, landmarks) @ looks < ALIKE:
            return path[:step]
    return path


def _between(
    start: np.ndarray, forth: list[np.ndarray], end: np.ndarray, back: list[np.ndarray], count: int
) -> list[np.ndarray]:
    """Return landmarks in `count` frames between two in which a face was found.

    Args:
        start: landmarks where it was found before.
        forth: followed from there on, as far as that went.
        end: landmarks where it is found.
        back: followed from there back.
        count: frames in between.
    """
    landmarks = []
    for step in range(1, count + 1):
        share = step / (count + 1)
        straight = (1 - share) * start + share * end
        from_start = forth[step - 1] if step <= len(forth) else None
        from_end = back[count - step] if count - step < len(back) else None
        if from_start is None:
            landmarks.append(straight if from_end is None else from_end)
        else:
            landmarks.append(from_start if from_end is None else (1 - share) * from_start + share * from_end)
    return landmarks
