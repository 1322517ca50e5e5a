import cv2
import numpy as np
import pytest

from difface_diffusers.evaluation.steadiness import landmark_jitter, still_error, warping_error


def film(count, shift=1.5):
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.random((96, 200, 3), np.float32), (0, 0), 3)
    wide = (wide - wide.min()) / np.ptp(wide)
    shifts = (np.float32([[1, 0, -shift * step], [0, 1, 0]]) for step in range(count))
    return [cv2.warpAffine(wide, matrix, (200, 96), flags=cv2.INTER_CUBIC)[:, :120] for matrix in shifts]


def flickering(frames, strength):
    return [frame + strength * (-1) ** number for number, frame in enumerate(frames)]


def test_motion_is_no_error_but_flicker_is():
    clean = film(5)
    assert warping_error(clean, clean) < 0.004 < 0.01 < still_error(clean)
    assert warping_error(flickering(clean, 0.05), clean) == pytest.approx(0.1, abs=0.005)
    assert warping_error([clean[0]] * 5, clean) > 0.01  # what stands still although it should move


def test_what_is_covered_does_not_count():
    clean = [frame.copy() for frame in film(4)]
    for number, frame in enumerate(clean):
        frame[20:60, 10 + 12 * number : 40 + 12 * number] = np.float32([0.9, 0.1, 0.5])
    assert warping_error(clean, clean) < 0.02 < 0.5 * still_error(clean)


def test_only_what_is_masked_counts():
    clean = film(3)
    left = np.zeros(clean[0].shape[:2], bool)
    left[:, :50] = True
    shaken = [
        np.where(left[..., None], frame, other) for frame, other in zip(clean, flickering(clean, 0.05), strict=True)
    ]
    assert warping_error(shaken, clean, [left] * 3) < 0.006
    assert warping_error(shaken, clean, [~left] * 3) == pytest.approx(0.1, abs=0.01)


def test_a_still_clip():
    frames = [np.full((8, 9, 3), level, np.uint8) for level in (51, 51, 102)]
    assert still_error(frames) == pytest.approx(0.1)


def test_landmarks_that_tremble():
    times = np.arange(9.0)[:, None, None]
    steady = np.ones((9, 5, 2)) * times * 3
    assert landmark_jitter(steady, 100) == pytest.approx(0)
    shaken = steady + np.array([1.0, 0]) * (-1) ** times
    assert landmark_jitter(shaken, 100) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warping_error(film(2), film(3)), "`frames` are 2 and `reference` 3"),
        (lambda: still_error(film(1)), "2 at least"),
        (lambda: warping_error(film(2), [np.zeros((4, 4, 3), np.float32)] * 2), "all must be of one"),
        (lambda: landmark_jitter(np.zeros((2, 5, 2)), 1), "of 2 frames; at least 3"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
