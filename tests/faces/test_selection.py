import numpy as np
import pytest

from difface_diffusers.faces import Face, YuNetDetector
from difface_diffusers.faces.alignment import template, transform
from difface_diffusers.faces.selection import parse_selection, select_faces
from tests.faces.test_alignment import similarity
from tests.faces.test_detection import astronaut, scene  # noqa: F401  a fixture


PHOTO = np.zeros((100, 200, 3), np.uint8)


def face(left, top, width, height):
    return Face((left, top, left + width, top + height), np.zeros((5, 2)), 0.9)


class Finds:
    def __init__(self, *faces):
        self.faces = list(faces)

    def detect(self, photo):
        return self.faces


class Blind:
    def detect(self, photo):
        raise AssertionError("nothing was to be looked for")


RIGHT, MIDDLE, LEFT = face(150, 10, 40, 50), face(80, 30, 20, 30), face(5, 60, 30, 30)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", [LEFT, MIDDLE, RIGHT]),
        ("largest", [RIGHT]),
        ("center", [MIDDLE]),
        ([2, 0], [RIGHT, LEFT]),
        ([np.int64(1)], [MIDDLE]),
        ([], []),
        ([Face((0, 0, 9, 9), template(9), 0.5), 0], None),
    ],
)
def test_found_faces(selection, expected):
    chosen = select_faces(PHOTO, Finds(RIGHT, LEFT, MIDDLE), selection)
    assert chosen == (expected if expected is not None else [selection[0], LEFT])


def test_nothing_found():
    for name in ("all", "largest", "center"):
        assert select_faces(PHOTO, Finds(), name) == []


def test_narrow_faces_are_left_out_and_not_counted():
    detector = Finds(RIGHT, LEFT, MIDDLE)
    assert select_faces(PHOTO, detector, "all", min_face_size=25) == [LEFT, RIGHT]
    assert select_faces(PHOTO, detector, [1], min_face_size=25) == [RIGHT]


def test_landmarks_by_hand():
    landmarks = transform(template(100), similarity(0.5, 30, (40, 20)))
    (given,) = select_faces(PHOTO, Blind(), [landmarks.tolist()])
    np.testing.assert_allclose(given.landmarks, landmarks)
    middle = transform(np.array([(50.5, 56.0)]), similarity(0.5, 30, (40, 20)))[0]
    np.testing.assert_allclose(given.center, middle, atol=0.1)
    assert given.score == 1 and 27 < given.width < 50


def test_a_box_by_hand_is_searched(astronaut):  # noqa: F811
    photo, _ = scene(astronaut, 60, 10, (240, 320), (160, 120))
    detector = YuNetDetector()
    (found,) = detector.detect(photo)
    box = tuple(np.array(found.box) + np.array([-6, 5, 3, 4]))
    (given,) = select_faces(photo, detector, [box])
    assert given.box == box
    assert np.hypot(*(given.landmarks - found.landmarks).T).max() < 2


def test_a_box_without_a_visible_face_gets_mean_landmarks():
    (given,) = select_faces(PHOTO, Finds(), [(20, 10, 75, 82)])
    np.testing.assert_allclose(
        given.landmarks, template(100) - np.array([3, 10]), atol=0.1
    )  # the box of a face of 100 pixels


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("first", "`faces` is 'first'; accepted is \"all\""),
        (3, "`faces` is 3; accepted"),
        ([True], "has the entry True"),
        (["all"], "has the entry 'all'"),
        ([(1, 2, 3)], "has the entry"),
        ([(1, 2, 3, np.nan)], "must be finite"),
        ([(5, 2, 3, 9)], "must be left, top, right, bottom"),
        ([np.zeros((5, 2))], "lie on one spot"),
        ([Face((0, 0, 1, 1), np.zeros((5, 2)), 1.0)], "lie on one spot"),
    ],
)
def test_what_cannot_be_understood(selection, message):
    with pytest.raises(ValueError, match=message):
        parse_selection(selection)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ([3], "the index 3, but 3 faces were found"),
        ([-1], "the index -1"),
        ([(300, 10, 350, 50)], r"outside the photograph of \(200, 100\) pixels"),
    ],
)
def test_what_is_not_in_the_photograph(selection, message):
    with pytest.raises(ValueError, match=message):
        select_faces(PHOTO, Finds(RIGHT, LEFT, MIDDLE), selection)
