import json
import sys
from itertools import combinations
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import detection
from difface_diffusers.evaluation import face_metrics
from difface_diffusers.faces import Face
from difface_diffusers.faces.alignment import estimate_similarity


LANDMARKS = np.array([(0.38, 0.47), (0.62, 0.48), (0.51, 0.6), (0.4, 0.73), (0.6, 0.74)])
SIDE = 256


class Perfect:
    """Knows the scenes by their pixels and finds every face where it is."""

    def __init__(self, scenes):
        self.faces = {
            picture.tobytes(): [Face(face.box, face.landmarks, 0.9) for face in planted] for picture, planted in scenes
        }

    def detect(self, photo):
        return self.faces[photo.tobytes()]


class Blind:
    def detect(self, photo):
        return []


class Imagining(Blind):
    """Sees a face in the corner of every picture, where none can be: it would reach over the edge."""

    def detect(self, photo):
        return [Face((-20, -20, 5, 5), np.full((5, 2), -7.0), 0.99)]


@pytest.fixture(scope="module")
def sources():
    """Two opaque crops, black but for a white dot at each landmark."""
    x = (np.arange(SIDE) + 0.5) / SIDE
    distances = np.hypot(x[None, :, None] - LANDMARKS[:, 0], x[:, None, None] - LANDMARKS[:, 1]).min(axis=2)
    dots = (255 * np.exp(-((distances / 0.02) ** 2) / 2)).astype(np.uint8)
    crop = np.repeat(dots[..., None], 3, axis=2)
    return [detection.Source(name, crop, np.ones((8, 8), np.float32), LANDMARKS) for name in ("a", "b")]


@pytest.fixture(scope="module")
def scenes(sources):
    return [detection.compose(np.random.default_rng([3, index]), sources, 1.0) for index in range(6)]


@pytest.fixture
def small(monkeypatch):
    """Small faces in small pictures."""
    monkeypatch.setattr(detection, "PICTURE_WIDTHS", (200, 300))
    monkeypatch.setattr(detection, "SIZE_BINS", (24, 32, 48))


def centroid(picture, point, radius):
    """The middle of the light within `radius` of a point, continuous coordinates."""
    left, top = (int(max(0, coordinate - radius)) for coordinate in point)
    light = picture[top : int(point[1] + radius) + 1, left : int(point[0] + radius) + 1].sum(axis=2, dtype=float)
    y, x = np.indices(light.shape) + 0.5 + np.array([top, left])[:, None, None]
    light *= np.hypot(x - point[0], y - point[1]) < radius
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def planted(x, y, width=100.0, size=100.0, angle=0.0):
    """A planted face around (x, y): landmarks spread by a tenth of its width, a box as high as wide."""
    landmarks = (x, y) + 0.1 * width * np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)])
    box = (x - width / 2, y - width / 2, x + width / 2, y + width / 2)
    return detection.Planted("a", size, angle, width, box, landmarks)


def find(x, y, score=0.9, box=(-9.0, -9.0, -8.0, -8.0)):
    """A find whose landmarks lie around (x, y) and whose box, unless given, overlaps nothing."""
    return Face(box, planted(x, y).landmarks, score)


# Planting


@pytest.mark.parametrize("angle", [0, 17, -30])
@pytest.mark.parametrize("side", [70.0, 131.3, 256.0, 433.7])
def test_landmarks_lie_where_the_truth_says(sources, side, angle):
    matrix = detection.crop_to_photo(np.array([410.3, 330.6]), side, angle)
    black = np.zeros((640, 800, 3), np.uint8)
    picture = detection.plant(black, sources[0].crop, sources[0].opacity, matrix)
    assert not black.any()
    for point in detection.transform(LANDMARKS, matrix):
        np.testing.assert_allclose(centroid(picture, point, 0.06 * side), point, atol=0.1)


def test_crop_coordinates_and_direction_of_the_angle():
    matrix = detection.crop_to_photo(np.array([10.0, 20.0]), 4.0, 90.0)
    points = detection.transform(np.array([(0.5, 0.5), (1, 0.5), (0.5, 1)]), matrix)
    np.testing.assert_allclose(points, [(10, 20), (10, 22), (8, 20)], atol=1e-9)  # right goes down: clockwise


def test_shrinking_averages_instead_of_sampling(sources):
    """A chessboard of single pixels becomes gray, whatever the phase."""
    board = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * np.uint8(255)
    matrix = detection.crop_to_photo(np.array([50.4, 50.7]), 30.0, 12.0)
    picture = detection.plant(
        np.zeros((100, 100, 3), np.uint8), np.dstack([board] * 3).astype(np.uint8), np.ones((8, 8), np.float32), matrix
    )
    np.testing.assert_allclose(picture[44:56, 44:56], 127.5, atol=2)


def test_opacity_decides_between_crop_and_background():
    opacity = np.zeros((64, 64), np.float32)
    opacity[16:48, 16:48] = 0.5
    matrix = detection.crop_to_photo(np.array([50.0, 50.0]), 64.0, 0.0)
    background = np.full((100, 100, 3), 100, np.uint8)
    picture = detection.plant(background, np.full((SIDE, SIDE, 3), 200, np.uint8), opacity, matrix)
    assert (picture[40:60, 40:60] == 150).all()
    outside = np.ones((100, 100), bool)
    outside[33:67, 33:67] = False
    assert (picture[outside] == 100).all()


@pytest.mark.parametrize(("seed", "width", "height"), [(0, 640, 480), (1, 640, 853), (2, 2400, 1600)])
def test_places_are_inside_and_do_not_overlap(seed, width, height):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        extents = np.exp(rng.uniform(np.log(24), np.log(1200), rng.integers(1, 7)))
        middles, grown_width, grown_height = detection.place(rng, extents, width, height)
        assert grown_width >= width and grown_height >= height
        low, high = middles - extents[:, None] / 2, middles + extents[:, None] / 2
        assert (low >= 0).all() and (high <= (grown_width, grown_height)).all()
        for one, other in combinations(range(len(extents)), 2):
            assert (low[one] >= high[other]).any() or (low[other] >= high[one]).any()


def test_a_picture_grows_only_for_faces_that_do_not_fit():
    rng = np.random.default_rng(0)
    assert detection.place(rng, np.array([400.0]), 640, 480)[1:] == (640, 480)
    width, height = detection.place(rng, np.array([900.0]), 640, 480)[1:]
    assert 900 <= height < 900 * 1.2 and width / height == pytest.approx(4 / 3, abs=0.01)


@pytest.mark.parametrize("size_of", detection.REGIMES.values(), ids=detection.REGIMES)
def test_composed_truth_fits_the_pixels(monkeypatch, sources, size_of):
    monkeypatch.setattr(
        detection, "textured_background", lambda rng, height, width: np.zeros((height, width, 3), np.uint8)
    )
    seen = 0
    for index in range(4):
        picture, faces = detection.compose(np.random.default_rng(index), sources, size_of)
        for face in faces:
            matrix = estimate_similarity(LANDMARKS, face.landmarks)
            side = np.sqrt(np.linalg.det(matrix[:, :2]))
            assert 24 <= face.size <= 900 and side == pytest.approx(face.size / size_of)
            assert np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) == pytest.approx(face.angle)
            assert face.face_width == pytest.approx(0.566 * side)
            middle = matrix @ (0.496, 0.551, 1)
            half = side * np.array([0.283, 0.378])
            np.testing.assert_allclose(face.box, [*(middle - half), *(middle + half)])
            if side > 100:
                seen += 1
                for point in face.landmarks:
                    np.testing.assert_allclose(centroid(picture, point, 0.06 * side), point, atol=0.5)
    assert seen > 3


def test_scenes_depend_on_their_seed_alone(small, sources):
    first, again, other = (detection.compose(np.random.default_rng(seed), sources, 1.0) for seed in (4, 4, 5))
    assert np.array_equal(first[0], again[0]) and str(first[1]) == str(again[1])
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_cut_out_keeps_the_head_and_drops_what_is_behind():
    y, x = ((np.indices((SIDE, SIDE)) + 0.5) / SIDE).astype(np.float32)
    head = ((x - 0.5) / 0.33) ** 2 + ((y - 0.52) / 0.45) ** 2
    rng = np.random.default_rng(0)
    crop = np.where((head < 1)[..., None], (210, 160, 130), (40, 90, 60)) + rng.normal(0, 8, (SIDE, SIDE, 3))
    opacity = detection.cut_out(crop.clip(0, 255).astype(np.uint8))
    assert opacity.dtype == np.float32 and 0 <= opacity.min() and opacity.max() <= 1
    head = head[1::2, 1::2]  # opacity has half the side
    assert opacity[head < 0.85].min() > 0.9 and opacity[head > 1.2].max() < 0.1


def test_cut_out_does_not_depend_on_the_state_of_opencv():
    coarse = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    crop = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    results = []
    for seed in (7, 1007, 2007):
        cv2.setRNGSeed(seed)
        results.append(detection.cut_out(crop))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_landmarks_are_those_of_the_68_points(monkeypatch):
    """Point i of the fake lies in the pixel (i, 2 i) of 512."""
    given = {}

    def predict(pixels, rectangle):
        given.update(shape=pixels.shape, rectangle=rectangle)
        return SimpleNamespace(parts=lambda: [SimpleNamespace(x=i, y=2 * i) for i in range(68)])

    monkeypatch.setattr(face_metrics, "load_landmark_network", lambda: predict)
    monkeypatch.setitem(sys.modules, "dlib", SimpleNamespace(rectangle=lambda *edges: edges))
    found = detection.find_landmarks(np.zeros((64, 64, 3), np.uint8))
    assert given == {"shape": (512, 512, 3), "rectangle": (95, 155, 406, 465)}
    means = np.array([38.5, 44.5, 30, 48, 54])
    np.testing.assert_allclose(found, np.stack([means + 0.5, 2 * means + 0.5], axis=1) / 512)


# Matching


def test_a_face_is_found_once_by_the_surest():
    weak, strong = find(0, 0, score=0.5), find(10, 0, score=0.8)
    one = detection.look(SimpleNamespace(detect=lambda photo: [weak, strong]), np.zeros((9, 9, 3)), [planted(0, 0)])
    assert one.matched == {0: strong} and one.false_alarms == [weak]
    assert one.error(0) == pytest.approx(10)  # 10 pixels of a width of 100


def test_a_find_takes_the_nearest_face_and_the_next_one_the_other():
    faces = [planted(0, 0), planted(50, 0), planted(500, 0)]
    left, right = find(22, 0, score=0.7), find(30, 0, score=0.9)
    assert detection.match([left, right], faces) == {1: right, 0: left}
    assert detection.match([right, left, find(20, 0, score=0.1)], faces) == {1: right, 0: left}


@pytest.mark.parametrize(("distance", "matches"), [(34.0, True), (36.0, False)])
def test_nearness_is_measured_in_face_widths(distance, matches):
    assert bool(detection.match([find(0, distance)], [planted(0, 0, width=100)])) is matches
    assert bool(detection.match([find(0, distance * 2)], [planted(0, 0, width=200)])) is matches


@pytest.mark.parametrize(("shift", "matches"), [(40.0, True), (45.0, False)])
def test_an_overlap_of_boxes_is_enough(shift, matches):
    box = (shift - 50, -50.0, shift + 50, 50.0)  # intersection over union: (100 - shift) / (100 + shift)
    assert bool(detection.match([find(999, 999, box=box)], [planted(0, 0)])) is matches


def test_error_is_the_mean_over_landmarks_in_percent_of_the_width():
    face = planted(0, 0, width=200)
    shifts = np.array([(3, 4), (0, 0), (0, 10), (0, -5), (0, 0)])
    one = detection.Look([face, face], {0: Face(face.box, face.landmarks + shifts, 0.9)}, [], 0.1)
    assert one.error(0) == pytest.approx(100 * (5 + 10 + 5) / 5 / 200) and one.error(1) is None


# The table


def rows(text):
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in cells[2:]}


def looks_of(detector, scenes):
    return {"crop": [detection.look(detector, *scene) for scene in scenes]}


def test_table_of_a_perfect_detector(scenes):
    looks = looks_of(Perfect(scenes), scenes)
    faces = sum(len(truth) for _, truth in scenes)
    text = rows(detection.table(looks))
    assert text["**crop: all**"][:4] == [str(faces), "1.000", "0.00", "0.000"]
    assert len(text) == 1 + 6 + 3
    for unit in ("px", "°"):
        binned = [row for name, row in text.items() if name.endswith(unit)]
        assert sum(int(row[0]) for row in binned) == faces
        assert all(row[1:3] == ["1.000", "0.00"] for row in binned if row[0] != "0")
    everyone = detection.records(looks)
    assert len(everyone) == faces and all(record["error"] == 0 for record in everyone)


def test_table_of_a_blind_and_of_an_imagining_detector(scenes):
    for detector, alarms in ((Blind(), "0.000"), (Imagining(), "1.000")):
        looks = looks_of(detector, scenes)
        text = rows(detection.table(looks))
        assert text["**crop: all**"][1:4] == ["0.000", "", alarms]
        assert all(row[1] in ("0.000", "") for row in text.values())
        assert all(record["error"] is None for record in detection.records(looks))


def test_faces_are_sorted_into_the_right_rows():
    faces = [
        planted(0, 0, size=31.9, angle=-9),
        planted(400, 0, size=32.1, angle=25),
        planted(800, 0, size=899, angle=-11),
    ]
    found = Face(faces[1].box, faces[1].landmarks + np.array([2, 0]), 0.9)
    text = rows(detection.table({"face": [detection.Look(faces, {1: found}, [], 0.25)] * 2}))
    assert text["**face: all**"] == ["6", "0.333", "2.00", "0.000", "250"]
    assert text["face: 24 to 32 px"] == ["2", "0.000", "", "", ""]
    assert text["face: 32 to 48 px"] == ["2", "1.000", "2.00", "", ""]
    assert text["face: 48 to 96 px"] == ["0", "", "", "", ""]
    assert text["face: 450 to 900 px"][:2] == ["2", "0.000"]
    assert [text[f"face: {name} °"][:2] for name in ("0 to 10", "10 to 20", "20 to 30")] == [
        ["2", "0.000"],
        ["2", "0.000"],
        ["2", "1.000"],
    ]


def test_annotations_show_hits_misses_and_false_alarms():
    faces = [planted(60, 60, width=40), planted(60, 160, width=40)]
    black = np.zeros((240, 240, 3), np.uint8)
    hit, alarm = find(63, 60, box=(41, 41, 85, 85)), find(160, 60, box=(140, 40, 180, 80))
    drawn = detection.annotate(black, detection.Look(faces, {0: hit}, [alarm], 0.1))
    assert not black.any() and drawn.shape == black.shape
    assert drawn[60, 40].tolist() == [0, 255, 0] and drawn[160, 40].tolist() == [255, 0, 0]
    assert drawn[60, 85].tolist() == [255, 255, 0] and drawn[60, 140].tolist() == [255, 0, 255]


# The script


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with two faces, whose landmarks need no dlib, and a detector that finds nothing."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for index in (1, 0):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no face")
    monkeypatch.setattr(detection, "find_landmarks", lambda crop: LANDMARKS)
    monkeypatch.setattr(detection, "YuNetDetector", Imagining)
    return folder


def test_sources_are_read_by_name(data):
    assert [(source.name, source.crop.shape) for source in detection.read_sources(data)] == [
        ("0.png", (64, 64, 3)),
        ("1.png", (64, 64, 3)),
    ]


def test_main_writes_table_records_and_examples(small, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detection, "EXAMPLE_SIDE", 100)
    output = tmp_path / "deep" / "report"
    arguments = ["--data", str(data), "--output", str(output), "--pictures", "2", "--seed", "5"]
    assert detection.main(arguments) == 0
    text = (output / "detection.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    records = json.loads((output / "detection.json").read_text())
    assert {record["regime"] for record in records} == {"crop", "face"}
    names = ["crop_0.png", "crop_1.png", "detection.json", "detection.md", "face_0.png", "face_1.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    with Image.open(output / "crop_0.png") as example:
        assert max(example.size) == 100
    for regime in detection.REGIMES:
        planted_here = sum(record["regime"] == regime for record in records)
        assert rows(text)[f"**{regime}: all**"][:4] == [str(planted_here), "0.000", "", "1.000"]

    assert detection.main([*arguments[:3], str(tmp_path / "again"), *arguments[4:]]) == 0
    assert json.loads((tmp_path / "again" / "detection.json").read_text()) == records


# Errors


def test_refuses_folders_without_square_images(data, tmp_path):
    with pytest.raises(ValueError, match=r"`data` must be a folder of images \(.*\), found none in"):
        detection.read_sources(tmp_path)
    Image.new("RGB", (64, 60)).save(data / "wide.png")
    with pytest.raises(ValueError, match=r"`data` must hold square, aligned faces, .*wide.png has \[60, 64\] pixels"):
        detection.read_sources(data)


def test_names_the_extra_that_is_missing(monkeypatch):
    face_metrics.load_landmark_network.cache_clear()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ImportError, match=r"`dlib`.*pip install \"difface-diffusers\[metrics\]\""):
        detection.find_landmarks(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(("option", "value"), [("--pictures", 0), ("--seed", -1)])
def test_refuses_impossible_options(capsys, tmp_path, option, value):
    with pytest.raises(SystemExit):
        detection.main(["--data", str(tmp_path), "--output", str(tmp_path), option, str(value)])
    assert f"{option} must be at least {value + 1}, got {value}" in capsys.readouterr().err
