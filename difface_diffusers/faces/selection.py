"""Which faces of a photograph to restore: those found, some of them, or those that a person gives by hand."""

from collections.abc import Sequence

import numpy as np

from .alignment import align, estimate_similarity, invert, template, transform, warp
from .detection import Face, FaceDetector


ACCEPTED = (
    '"all", "largest", "center", or a list of indices (from the left), boxes (left, top, right, bottom), landmarks [5,2]'
    " or Faces"
)
NAMES = ("all", "largest", "center")
BOX_IN_FACE = (0.23, 0.20, 0.78, 0.92)  # YuNet's mean box in an aligned face, shares of its side
VIEW = 256

Selection = str | Sequence[int | Sequence[float] | np.ndarray | Face]


def parse_selection(selection: Selection) -> str | list[int | Face | np.ndarray]:
    """Return a name, or the entries of a list as indices, faces and arrays; raise `ValueError` for anything else."""
    if isinstance(selection, str):
        if selection not in NAMES:
            raise ValueError(f"`faces` is {selection!r}; accepted is {ACCEPTED}.")
        return selection
    if not isinstance(selection, Sequence | np.ndarray):
        raise ValueError(f"`faces` is {selection!r}; accepted is {ACCEPTED}.")
    return [_parse_entry(entry) for entry in selection]


def _parse_entry(entry: int | Sequence[float] | np.ndarray | Face) -> int | Face | np.ndarray:
    if isinstance(entry, Face):
        _parse_entry(entry.landmarks)
        return entry
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        return int(entry)
    try:
        points = np.asarray(entry, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape not in ((4,), (5, 2)):
        raise ValueError(f"`faces` has the entry {entry!r}; accepted is {ACCEPTED}.")
    if not np.isfinite(points).all():
        raise ValueError(f"`faces` has the entry {entry!r}; all coordinates must be finite.")
    if points.shape == (4,) and not (points[0] < points[2] and points[1] < points[3]):
        raise ValueError(f"`faces` has the box {entry!r}; it must be left, top, right, bottom.")
    if points.shape == (5, 2):
        try:
            align(points, VIEW)
        except ValueError as error:
            raise ValueError(f"`faces` has the landmarks {points.tolist()}: {error}") from error
    return points


def select_faces(
    photo: np.ndarray, detector: FaceDetector, selection: Selection = "all", min_face_size: float = 0
) -> list[Face]:
    """Return the faces to restore, from left to right if they were found, in the given order if they were given.

    Args:
        photo: uint8 RGB `[H,W,3]`.
        detector: finds the faces; not asked where all landmarks are given.
        selection: "all"; "largest"; "center", the one nearest to the middle; or a list, every entry of which is an index
            into all faces found counted from the left, a box, landmarks or a `Face`. Landmarks are looked for in a box, and
            where none are found those of a mean, upright face are taken.
        min_face_size: found faces of a narrower box are left out, pixels.

    Raises:
        ValueError: an index, a box or landmarks that cannot be; the message says which.
    """
    wanted = parse_selection(selection)
    if not isinstance(wanted, str):
        found = _find(photo, detector, min_face_size) if any(isinstance(entry, int) for entry in wanted) else []
        return [_resolve(entry, photo, detector, found) for entry in wanted]
    found = _find(photo, detector, min_face_size)
    if wanted == "all" or not found:
        return found
    if wanted == "largest":
        return [max(found, key=lambda face: face.width * face.height)]
    middle = np.array(photo.shape[1::-1]) / 2
    return [min(found, key=lambda face: np.hypot(*(face.center - middle)))]


def _find(photo: np.ndarray, detector: FaceDetector, min_face_size: float) -> list[Face]:
    faces = [face for face in detector.detect(photo) if face.width >= min_face_size]
    return sorted(faces, key=lambda face: face.center[0])


def _resolve(entry: int | Face | np.ndarray, photo: np.ndarray, detector: FaceDetector, found: list[Face]) -> Face:
    if isinstance(entry, Face):
        return entry
    if isinstance(entry, int):
        if not 0 <= entry < len(found):
            raise ValueError(f"`faces` has the index {entry}, but {len(found)} faces were found.")
        return found[entry]
    return _face_from_landmarks(entry) if entry.shape == (5, 2) else _face_in_box(entry, photo, detector)


def _face_from_landmarks(landmarks: np.ndarray) -> Face:
    corners = transform(_corners(BOX_IN_FACE) * VIEW, invert(align(landmarks, VIEW)))
    return Face((*corners.min(0).tolist(), *corners.max(0).tolist()), landmarks, 1.0)


def _face_in_box(box: np.ndarray, photo: np.ndarray, detector: FaceDetector) -> Face:
    if box[0] >= photo.shape[1] or box[1] >= photo.shape[0] or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"`faces` has the box {box.tolist()}, outside the photograph of {photo.shape[1::-1]} pixels.")
    side = 2 * max(box[2] - box[0], box[3] - box[1])
    left, top = (box[:2] + box[2:] - side) / 2
    photo_to_view = np.array([[1, 0, -left], [0, 1, -top]]) * (VIEW / side)
    seen = detector.detect(warp(photo, photo_to_view, (VIEW, VIEW)))
    view_to_photo = invert(photo_to_view)
    within = [
        landmarks
        for landmarks in (transform(face.landmarks, view_to_photo) for face in seen)
        if (box[:2] < landmarks.mean(0)).all() and (landmarks.mean(0) < box[2:]).all()
    ]
    if within:
        return Face(tuple(box.tolist()), within[0], 1.0)
    face_to_photo = estimate_similarity(_corners(BOX_IN_FACE), _corners(box))
    return Face(tuple(box.tolist()), transform(template(1), face_to_photo), 1.0)


def _corners(box: Sequence[float] | np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (left, bottom), (right, bottom)])
