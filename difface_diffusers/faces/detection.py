"""Find faces and their landmarks in a photograph."""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ..utils.checks import check_number
from ..utils.warning import warn_user
from .alignment import compose, estimate_similarity, invert, template, transform, warp


MODEL = Path(__file__).parent / "yunet" / "face_detection_yunet_2023mar.onnx"
COARSEST = 320  # longest side of the smallest copy that is searched, pixels
TILE = 1280
OVERLAP = 256  # larger than any face that the next coarser copy could miss
ENLARGED_UP_TO = 4_000_000  # pixels
PROPOSAL_SCORE = 0.4
VIEW = 192  # side of the view for the second look
FACE_IN_VIEW = 80  # height of a face in it, pixels
TILT_ROUNDS = 3
TILT_GAIN = 2.0  # YuNet sees a tilt as about half of what it is
TILT_ASIDE = np.deg2rad(10)
MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirror
OVERLAP_OF_ONE_FACE = 0.3


@dataclass(frozen=True)
class Face:
    """A face in a photograph, in the photograph's pixels; for the convention see `alignment`.

    Attributes:
        box: left, top, right, bottom; may reach over the edge.
        landmarks: `[5,2]` (x, y): eye on the left of the upright face as seen, eye on the right, tip of the nose, left and
            right corner of the mouth.
        score: the detector's confidence, 0 .. 1; 1 where a person gave the face.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def width(self) -> float:
        """Width of the box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box."""
        return self.box[3] - self.box[1]

    @property
    def center(self) -> np.ndarray:
        """Middle of the box, (x, y)."""
        return np.array([self.box[0] + self.box[2], self.box[1] + self.box[3]]) / 2

    @property
    def centre(self) -> np.ndarray:
        """`center`, as it was called in the last release."""
        warn_user("`Face.centre` is called `center` now; the old name goes with the next release.", DeprecationWarning)
        return self.center


class FaceDetector(Protocol):
    """Whatever finds faces."""

    def detect(self, photo: np.ndarray) -> list[Face]:
        """Return the faces in `photo`, uint8 RGB `[H,W,3]`, the surest first."""
        ...


class YuNetDetector:
    """YuNet (Wu, Peng and Yu 2023) by OpenCV, searched over copies of several sizes, every find looked at again upright.

    YuNet knows faces of about 12 to 400 pixels, upright to within some 40 degrees, and the more a face is tilted, the more
    its landmarks are off. So the photograph is searched in four quarter turns, shrunk to a longest side of 320 and of 640
    pixels, and as it is and in the turn that shows most at every doubling up to twice its own size. Whatever looks like a face
    is then cut out at a size that YuNet likes and turned until it stands upright; only what is seen there too counts, its
    landmarks averaged over four views. Not thread-safe: one detector per thread.

    Args:
        min_score: mean confidence in the four views from which a find counts, 0 .. 1.

    Raises:
        ValueError: the score is out of range.
    """

    def __init__(self, min_score: float = 0.8) -> None:
        check_number("min_score", min_score, 0, 1)
        self.min_score = min_score
        with _without_warnings():
            self._network = cv2.FaceDetectorYN.create(
                "onnx", np.fromfile(MODEL, np.uint8), np.empty(0, np.uint8), (VIEW, VIEW), PROPOSAL_SCORE
            )

    def detect(self, photo: np.ndarray) -> list[Face]:
        """Return the faces in `photo`, uint8 RGB `[H,W,3]`, the surest first."""
        sizes = pyramid_sizes(*photo.shape[:2])
        coarse = [self._search_turned(photo, turn, sizes[:2]) for turn in range(4)]
        proposals = list(itertools.chain(*coarse))
        seen = [sum(face.score for face in faces if face.score >= self.min_score) for faces in coarse]
        for turn in {0, int(np.argmax(seen))} if any(seen) else range(4):
            proposals += self._search_turned(photo, turn, sizes[2:])
        confirmed = [self._look_again(photo, proposal) for proposal in keep_best(proposals)]
        return keep_best([face for face in confirmed if face is not None and face.score >= self.min_score])

    def _search_turned(self, photo: np.ndarray, quarter_turns: int, sizes: list[int]) -> list[Face]:
        """Search a photograph that lies on its side: turn it counterclockwise first, and the finds back."""
        turned = np.rot90(photo, quarter_turns)
        turned_to_photo = _quarter_turns_back(photo.shape[:2], quarter_turns)
        return [
            face
            for tile, tile_to_turned in pyramid(turned, sizes)
            for face in self._search(tile, compose(tile_to_turned, turned_to_photo))
        ]

    def _search(self, picture: np.ndarray, picture_to_photo: np.ndarray) -> list[Face]:
        """Run the network once over `picture`; return what it finds, in the photograph's pixels."""
        self._network.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return [] if rows is None else [_to_face(row.astype(np.float64), picture_to_photo) for row in rows]

    def _look_again(self, photo: np.ndarray, proposal: Face) -> Face | None:
        """Find a proposed face once more, upright and of the best size; `None` if it is not there."""
        quarter = round(tilt_of(proposal.landmarks) / (np.pi / 2)) * (np.pi / 2)
        starts = {turn: self._search_around(photo, proposal, turn) for turn in {0.0, quarter}}
        tilt = max(starts, key=lambda turn: starts[turn].score if starts[turn] else 0)
        face = starts[tilt]
        if face is None:
            return None
        for _ in range(TILT_ROUNDS):
            tilt += TILT_GAIN * _wrapped(tilt_of(face.landmarks) - tilt)
            face = self._search_around(photo, face, tilt) or face
        # The network's errors are of opposite sign in views tilted to opposite sides, and in a view and its mirror image.
        views = [
            self._search_around(photo, face, tilt + aside, mirrored)
            for aside in (-TILT_ASIDE, TILT_ASIDE)
            for mirrored in (False, True)
        ]
        seen = [view for view in views if view is not None]
        if len(seen) < len(views):
            return None
        box, landmarks = (np.mean([getattr(view, name) for view in seen], axis=0) for name in ("box", "landmarks"))
        return Face(tuple(box.tolist()), landmarks, float(np.mean([view.score for view in seen])))

    def _search_around(self, photo: np.ndarray, face: Face, tilt: float, mirrored: bool = False) -> Face | None:
        """Return what is found in the place of `face`, seen turned back by `tilt` radians."""
        view_to_photo = _view_to_photo(face, tilt)
        if mirrored:
            view_to_photo = compose(np.array([[-1.0, 0, VIEW], [0, 1, 0]]), view_to_photo)
        view = warp(photo, invert(view_to_photo), (VIEW, VIEW))
        found = [other for other in self._search(view, view_to_photo) if _is_same(face, other)]
        best = max(found, key=lambda other: other.score, default=None)
        return Face(best.box, best.landmarks[MIRRORED], best.score) if best and mirrored else best


@contextmanager
def _without_warnings() -> Generator[None]:
    """Keep OpenCV 5 from warning of a target that nobody chose; earlier ones do not, and have no levels to set."""
    if not hasattr(cv2.utils, "logging"):
        yield
        return
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def pyramid_sizes(height: int, width: int) -> list[int]:
    """Return the longest sides, in pixels, of the copies to search: 320, 640 and so on, to twice the photograph's.

    Photographs of more than 4 megapixels are not enlarged.
    """
    longest = max(height, width) * (2 if height * width <= ENLARGED_UP_TO else 1)
    sizes = [COARSEST]
    while sizes[-1] < longest:
        sizes.append(sizes[-1] * 2)
    return [min(size, longest) for size in sizes]


def pyramid(photo: np.ndarray, sizes: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield copies of a photograph `[H,W,3]` in tiles: the pixels, and the `tile_to_photo` matrix."""
    height, width = photo.shape[:2]
    for size in sizes:
        rows, columns = (max(1, round(side * size / max(height, width))) for side in (height, width))
        smoothing = cv2.INTER_AREA if size <= max(height, width) else cv2.INTER_CUBIC
        copy = cv2.resize(photo, (columns, rows), interpolation=smoothing)
        across, down = width / columns, height / rows
        for top, left in itertools.product(tile_starts(rows), tile_starts(columns)):
            tile = np.ascontiguousarray(copy[top : top + TILE, left : left + TILE])
            yield tile, np.array([[across, 0, left * across], [0, down, top * down]])


def tile_starts(length: int) -> list[int]:
    """Return where tiles begin that cover `length` pixels, each overlapping the next."""
    count = max(1, -(-(length - OVERLAP) // (TILE - OVERLAP)))
    return [round(start) for start in np.linspace(0, max(0, length - TILE), count)]


def _quarter_turns_back(size: tuple[int, int], quarter_turns: int) -> np.ndarray:
    """Return the matrix from a photograph turned by `np.rot90` to the photograph of `size` (height, width)."""
    height, width = size
    return np.array(
        [
            [[1, 0, 0], [0, 1, 0]],
            [[0, -1, width], [1, 0, 0]],
            [[-1, 0, width], [0, -1, height]],
            [[0, 1, 0], [-1, 0, height]],
        ][quarter_turns],
        np.float64,
    )


def keep_best(faces: list[Face]) -> list[Face]:
    """Sort by score and drop every face that lies over a surer one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(_is_same(face, other) for other in kept):
            kept.append(face)
    return kept


def _is_same(face: Face, other: Face) -> bool:
    width = min(face.box[2], other.box[2]) - max(face.box[0], other.box[0])
    height = min(face.box[3], other.box[3]) - max(face.box[1], other.box[1])
    shared = max(width, 0) * max(height, 0)
    return shared > OVERLAP_OF_ONE_FACE * (face.width * face.height + other.width * other.height - shared)


def tilt_of(landmarks: np.ndarray) -> float:
    """Return by how much a face is turned clockwise, as seen, radians within -pi .. pi."""
    face_to_photo = estimate_similarity(template(1), landmarks)
    return float(np.arctan2(face_to_photo[1, 0], face_to_photo[0, 0]))


def _wrapped(angle: float) -> float:
    return float(np.arctan2(np.sin(angle), np.cos(angle)))


def _view_to_photo(face: Face, tilt: float) -> np.ndarray:
    """Return the matrix from a view that shows the face upright, in the middle and of a known size."""
    scale = max(face.width, face.height) / FACE_IN_VIEW
    turn = scale * np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    return np.column_stack([turn, face.center - turn @ (VIEW / 2, VIEW / 2)])


def _to_face(row: np.ndarray, picture_to_photo: np.ndarray) -> Face:
    """Convert a row of YuNet's answer: x, y, width, height, five points, score."""
    middle = transform(row[None, :2] + row[None, 2:4] / 2, picture_to_photo)[0]
    # A turned face fills about the ellipse within its turned box.
    half = np.hypot(*(np.abs(picture_to_photo[:, :2]) * row[2:4] / 2).T)
    landmarks = transform(row[4:14].reshape(5, 2), picture_to_photo)
    return Face((*(middle - half).tolist(), *(middle + half).tolist()), landmarks, float(row[14]))
