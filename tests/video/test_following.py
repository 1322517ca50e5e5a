import numpy as np
import pytest

from difface_diffusers.video.following import follow, looks_of, side_of

from .scenes import SIDE, background, draw, face, gray, noisy, place


def film(places, noise=0.0):
    frames, landmarks = zip(*(draw(background(), matrix) for matrix in places), strict=True)
    return [gray(noisy(frame, noise, seed)) for seed, frame in enumerate(frames)], landmarks


@pytest.mark.parametrize("noise", [0, 10])
@pytest.mark.parametrize(
    "places",
    [
        [place(100 + 6 * step, 90 - 2 * step) for step in range(8)],
        [place(150, 90, 0.5 * 1.06**step) for step in range(8)],
        [place(150, 90, 0.6, 0.06 * step) for step in range(8)],
        [place(150, 90)] * 8,
    ],
    ids=["shift", "zoom", "turn", "still"],
)
def test_landmarks_follow_the_face(places, noise):
    frames, truth = film(places, noise)
    followed = follow(frames, truth[0])
    assert len(followed) == 7
    errors = [np.abs(found - true).max() for found, true in zip(followed, truth[1:], strict=True)]
    assert max(errors) < (2 if noise else 1.3)  # of a face of 77 pixels


def test_it_ends_where_the_face_is_gone():
    frames, truth = film([place(150, 90 + step) for step in range(4)])
    frames[2] = gray(background(3))
    assert len(follow(frames, truth[0])) == 1
    assert follow(frames[:1], truth[0]) == []
    assert follow(frames, truth[0] + 5000) == []


def test_what_a_face_looks_like():
    frame, landmarks = draw(background(), place(100, 90))
    turned, there = draw(background(4), place(200, 80, 0.8, 0.3), tone=0.7)
    other, other_landmarks = draw(background(), place(100, 90), mirrored=True)
    looks = looks_of(gray(frame), landmarks)
    assert looks @ looks == pytest.approx(1) and abs(looks.mean()) < 1e-6
    assert looks @ looks_of(gray(noisy(turned, 8, 0)), there) > 0.85
    assert looks @ looks_of(gray(other), other_landmarks) < 0.2
    assert np.abs(looks_of(np.full((90, 90), 7, np.uint8), np.array(landmarks))).max() < 1e-3


def test_the_side_of_a_face():
    assert side_of(face()[1]) == pytest.approx(SIDE, rel=0.01)
