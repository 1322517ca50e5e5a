from fractions import Fraction

import numpy as np
import pytest

from difface_diffusers.photos.treatment import FaceTreatment
from difface_diffusers.video.plan import Judgement, Survey
from difface_diffusers.video.survey import SAMPLES, Surveyor

from .scenes import KnownFaces, film, place


JUDGEMENT = Judgement(300, FaceTreatment(1.0, 1, 0.5, 0, "as a test says"))
PAN = [place(90 + 4 * step, 90) for step in range(14)]
STAY = [place(200, 95, 0.7)] * 9


def survey(frames, truth, judge=lambda crops: JUDGEMENT, every=5, faces="all", steadiness=1.0, detector=None):
    detector = detector or KnownFaces(frames, truth)
    surveyor = Surveyor(detector, judge, 32, every, 25.0, faces, 16, "auto", steadiness)
    told = []
    times = [Fraction(number, 25) for number in range(len(frames))]
    answer = surveyor.watch(zip(times, times, frames, strict=True), told.append)
    assert told == list(range(1, len(frames) + 1)) and answer.times == answer.source_times == times
    return answer


def test_scenes_and_the_faces_in_them():
    frames, truth = film((PAN, 0), (STAY, 3))
    answer = survey(frames, truth)
    assert [(scene.first, scene.stop) for scene in answer.scenes] == [(0, 14), (14, 23)]
    assert [[face.number for face in scene.faces] for scene in answer.scenes] == [[0], [1]]
    for scene in answer.scenes:
        (face,) = scene.faces
        assert face.judgement is JUDGEMENT and not scene.keep_tint
        for number in range(scene.first, scene.stop):
            assert np.abs(face.at(number) - truth[number]).max() < 1.5
        assert face.at(scene.first - 1) is face.at(scene.stop) is None


def test_faces_are_looked_for_now_and_then():
    frames, truth = film((PAN, 0))
    detector = KnownFaces(frames, truth)
    survey(frames, truth, detector=detector)
    assert detector.asked == 4  # frames 0, 5, 10 and the last
    survey(frames, truth, every=1, detector=detector)
    assert detector.asked == 4 + 14


def test_a_face_is_judged_by_crops_from_all_of_its_scene():
    seen = []

    def judge(crops):
        seen.append(crops)
        return JUDGEMENT

    frames, truth = film(([place(100 + step % 40, 90) for step in range(90)], 0))
    survey(frames, truth, judge, every=2)
    (crops,) = seen
    assert SAMPLES / 2 <= len(crops) <= SAMPLES and crops[0].shape == (32, 32, 3) and crops[0].dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
def test_short_scenes(count):
    frames, truth = film((PAN[:count], 0), (STAY[:1], 3))
    answer = survey(frames, truth)
    assert [(scene.first, scene.stop) for scene in answer.scenes] == [(0, count), (count, count + 1)]
    assert all(len(scene.faces) == 1 and all(scene.faces[0].seen) for scene in answer.scenes)


def test_without_faces_and_without_frames():
    frames, truth = film(([None] * 7, 0))
    assert [scene.faces for scene in survey(frames, truth).scenes] == [[]]
    assert survey([], []).scenes == []


def test_a_gray_film_keeps_its_tint():
    frames, truth = film((STAY, 0))
    gray = [frame.mean(axis=-1, keepdims=True).repeat(3, -1).round().astype(np.uint8) for frame in frames]
    assert [scene.keep_tint for scene in survey(gray, truth).scenes] == [True]


def test_landmarks_of_large_frames_are_those_of_the_frame_itself():
    frames, truth = film((PAN[:6], 0))
    large = [frame.repeat(6, 0).repeat(6, 1) for frame in frames]  # 1920 pixels wide, followed at 960
    answer = survey(large, [6 * points for points in truth])
    assert np.abs(answer.scenes[0].faces[0].at(3) - 6 * truth[3]).max() < 8


def test_saved_and_read_again(tmp_path):
    frames, truth = film((PAN, 0), (STAY, 3))
    for judge in (None, lambda crops: JUDGEMENT):
        answer = survey(frames, truth, judge)
        answer.save(tmp_path / "survey.json")
        again = Survey.load(tmp_path / "survey.json")
        assert again.times == answer.times and again.source_times == answer.source_times
        for scene, other in zip(answer.scenes, again.scenes, strict=True):
            assert (scene.first, scene.stop, scene.keep_tint) == (other.first, other.stop, other.keep_tint)
            for face, twin in zip(scene.faces, other.faces, strict=True):
                np.testing.assert_array_equal(face.landmarks, twin.landmarks)
                assert (face.seen, face.judgement) == (twin.seen, twin.judgement)
