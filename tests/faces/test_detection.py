from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.faces import Face, YuNetDetector, detection
from difface_diffusers.faces.alignment import invert, template, transform, warp
from difface_diffusers.faces.detection import keep_best, pyramid, pyramid_sizes, tile_starts
from tests.faces.test_alignment import similarity


ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut_clean.png"


@pytest.fixture(scope="module")
def detector():
    return YuNetDetector()


@pytest.fixture(scope="module")
def astronaut():
    """An aligned face."""
    return np.asarray(Image.open(ASTRONAUT).convert("RGB"))


@pytest.fixture(scope="module")
def truth(detector, astronaut):
    """The landmarks of the aligned face, as found upright."""
    (face,) = detector.detect(astronaut)
    return face.landmarks


def test_an_opencv_without_levels_finds_the_same(monkeypatch, astronaut, truth):
    monkeypatch.delattr(detection.cv2.utils, "logging", raising=False)
    (face,) = YuNetDetector().detect(astronaut)
    np.testing.assert_array_equal(face.landmarks, truth)


def test_levels_of_opencv_are_left_as_they_were():
    if hasattr(detection.cv2.utils, "logging"):
        before = detection.cv2.utils.logging.getLogLevel()
        YuNetDetector()
        assert detection.cv2.utils.logging.getLogLevel() == before


def plant(photo, face, face_to_photo):
    """Draw the head of an aligned face into a photograph, through a soft ellipse."""
    side = len(face)
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    mask = np.clip((1 - np.hypot((x - 0.5) / 0.46, (y - 0.52) / 0.48)) * 10, 0, 1).astype(np.float32)
    mask = warp(np.ascontiguousarray(mask), face_to_photo, photo.shape[:2])
    inside = transform(np.argwhere(np.ones(photo.shape[:2]))[:, ::-1] + 0.5, invert(face_to_photo)) / side
    mask *= ((inside > 0) & (inside < 1)).all(1).reshape(photo.shape[:2])
    drawn = warp(face, face_to_photo, photo.shape[:2])
    return np.rint(photo + mask[..., None].clip(0, 1) * (drawn.astype(np.float32) - photo)).astype(np.uint8)


def wall(height, width):
    """A background of waves and grain, without faces."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    waves = 120 + 40 * np.sin(x / 31) * np.cos(y / 47)
    return (waves[..., None] + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


def scene(astronaut, face_width, degrees=0, size=(480, 640), middle=(300, 240)):
    turn = similarity(face_width / 0.55 / 256, degrees, (0, 0))
    shift = np.array(middle) - transform(np.array([(128.0, 128.0)]), turn)[0]
    face_to_photo = np.column_stack([turn[:, :2], shift])
    return plant(wall(*size), astronaut, face_to_photo), face_to_photo


class TestYuNetDetector:
    @pytest.mark.parametrize(
        ("face_width", "degrees", "size"),
        [(width, degrees, (480, 640)) for width in (16, 40, 150) for degrees in (0, 30)] + [(1100, 30, (2000, 2100))],
    )
    def test_finds_small_and_large_faces(self, detector, astronaut, truth, face_width, degrees, size):
        middle = (size[1] / 2 + 3, size[0] / 2)
        photo, face_to_photo = scene(astronaut, face_width, degrees, size, middle)
        (face,) = detector.detect(photo)
        errors = np.hypot(*(face.landmarks - transform(truth, face_to_photo)).T)
        assert errors.max() < max(0.05 * face_width, 1.8)
        assert 0.7 * face_width < face.width < 1.5 * face_width

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_finds_faces_that_lie_or_stand_on_their_head(self, detector, astronaut, truth, turns):
        photo, face_to_photo = scene(astronaut, 60)
        (face,) = detector.detect(np.rot90(photo, turns))
        x, y = transform(truth, face_to_photo).T
        height, width = photo.shape[:2]
        expected = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[turns]
        assert np.hypot(*(face.landmarks.T - expected)).max() < 3

    def test_a_large_face_that_lies_hides_no_small_upright_ones(self, detector, astronaut):
        photo, _ = scene(astronaut, 10, size=(670, 870), middle=(800, 600))
        lying, _ = scene(astronaut, 200, size=(600, 600), middle=(300, 300))
        photo[:600, :600] = np.rot90(lying)
        assert sorted(face.width for face in detector.detect(photo)) == pytest.approx([10, 240], rel=0.2)

    def test_finds_many(self, detector, astronaut):
        group = np.tile(np.asarray(Image.fromarray(astronaut).resize((96, 96))), (4, 6, 1))
        faces = detector.detect(group)
        assert len(faces) == 24
        cells = {(int(face.center[0] // 96), int(face.center[1] // 96)) for face in faces}
        assert len(cells) == 24

    def test_finds_no_face_where_there_is_none(self, detector):
        assert detector.detect(wall(300, 500)) == []
        assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []
        assert detector.detect(np.zeros((3, 900, 3), np.uint8)) == []

    def test_finds_a_face_cut_by_the_border(self, detector, astronaut):
        photo, _ = scene(astronaut, 120, middle=(20, 240))
        (face,) = detector.detect(photo)
        assert face.center[0] < 80

    def test_a_higher_bar_finds_less(self, astronaut):
        photo, _ = scene(astronaut, 60)
        assert YuNetDetector(min_score=0.99).detect(photo) == []

    def test_reads_rgb(self, detector, astronaut):
        (face,), (swapped,) = detector.detect(astronaut), detector.detect(np.ascontiguousarray(astronaut[..., ::-1]))
        assert face.score > swapped.score


class TestPyramid:
    @pytest.mark.parametrize(
        ("height", "width", "sizes"),
        [
            (100, 90, [200]),
            (100, 160, [320]),
            (170, 10, [320, 340]),
            (1000, 2000, [320, 640, 1280, 2560, 4000]),
            (3000, 2000, [320, 640, 1280, 2560, 3000]),
        ],
    )
    def test_sizes(self, height, width, sizes):
        assert pyramid_sizes(height, width) == sizes

    def test_tiles_cover_and_overlap(self):
        for length in (1, 1280, 1281, 2304, 2305, 5000):
            starts = tile_starts(length)
            ends = [min(start + detection.TILE, length) for start in starts]
            assert starts[0] == 0 and ends[-1] == length
            assert all(end - start >= detection.OVERLAP - 1 for start, end in zip(starts[1:], ends, strict=False))

    def test_matrices_lead_back_to_the_photograph(self, monkeypatch):
        monkeypatch.setattr(detection, "TILE", 60)
        monkeypatch.setattr(detection, "OVERLAP", 20)
        y, x = np.mgrid[0:150, 0:200]
        photo = np.stack([x, y, x * 0], axis=-1).astype(np.uint8)
        seen = np.zeros((150, 200), bool)
        for tile, tile_to_photo in pyramid(photo, [100, 200]):
            rows, columns = tile.shape[:2]
            place = transform(np.array([(columns / 2, rows / 2)]), tile_to_photo)[0]
            np.testing.assert_allclose(tile[..., :2].mean((0, 1)) + 0.5, place, atol=0.6)
            (left, top), (right, bottom) = (
                transform(np.array([(0, 0), (columns, rows)]), tile_to_photo).round().astype(int)
            )
            seen[top:bottom, left:right] = True
        assert seen.all()


def test_keep_best_drops_what_lies_over_a_surer_face():
    landmarks = np.zeros((5, 2))
    sure, double, apart = (Face(box, landmarks, score) for box, score in
                           (((0, 0, 10, 10), 0.9), ((2, 0, 12, 10), 0.8), ((8, 0, 18, 10), 0.7)))  # fmt: skip
    assert keep_best([apart, double, sure]) == [sure, apart]


def test_the_template_is_what_the_detector_sees(truth):
    """The astronaut was aligned to the means of the training faces, which are the template's to 4 of 512 pixels."""
    assert np.hypot(*(truth - template(256)).T).max() < 8


@pytest.mark.parametrize("score", [-0.1, 1.5, "0.8", float("nan"), True])
def test_a_score_out_of_range_is_refused(score):
    with pytest.raises(ValueError, match=r"`min_score` is .*; it must be a number within 0 .. 1"):
        YuNetDetector(score)
