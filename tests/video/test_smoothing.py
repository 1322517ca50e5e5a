import numpy as np
import pytest

from difface_diffusers.video.smoothing import smooth_landmarks


FACE = np.array([(10.0, 10), (30, 11), (20, 20), (12, 30), (28, 31)])


def trembling(path, strength=1.0):
    rng = np.random.default_rng(0)
    return [FACE + place + rng.normal(0, strength, (5, 2)) for place in path]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 25])
def test_steady_motion_and_acceleration_stay(count):
    times = np.arange(count)[:, None]
    path = [FACE + place for place in times * (3.0, -1) + times**2 * (0.2, 0.1)]
    for smooth, exact in zip(smooth_landmarks(path, [True] * count, [None] * count, 1), path, strict=True):
        np.testing.assert_allclose(smooth, exact, atol=1e-6)


def test_trembling_goes_by_the_steadiness():
    """Where the face is found trembles; flow knows how it moves."""
    path = [(2.0 * step, 0) for step in range(60)]
    landmarks = trembling(path)
    motions = [None, *[np.array([[1.0, 0, 2], [0, 1, 0]])] * 59]

    def jitter(steadiness):
        smoothed = np.array(smooth_landmarks(landmarks, [True] * 60, motions, steadiness))
        errors = smoothed - [FACE + place for place in path]
        return np.abs(np.diff(errors, 2, axis=0)).mean(), np.abs(errors[5:-5]).mean()

    (shaken, error), (half, _), (steady, remains) = jitter(0), jitter(0.5), jitter(1)
    assert half < 0.03 * shaken and steady < 0.01 * shaken and remains < 0.3 * error


def test_where_flow_drifts_the_finds_count():
    path = [FACE + np.array([2.0 * step, 0]) for step in range(60)]
    motions = [None, *[np.array([[1.0, 0, 2.1], [0, 1, 0.1]])] * 59]
    for smooth, exact in zip(smooth_landmarks(path, [True] * 60, motions, 1), path, strict=True):
        np.testing.assert_allclose(smooth, exact, atol=1e-6)


def test_what_wanders_a_little_stands_still():
    """Finds of a face that does not move drift by a hundredth of a pixel a frame while a codec settles."""
    path = [FACE + np.array([0.15 * step / 40, 0]) for step in range(40)]
    smoothed = np.array(smooth_landmarks(path, [True] * 40, [None] * 40, 1))
    np.testing.assert_allclose(smoothed, np.broadcast_to(smoothed[0], smoothed.shape), atol=1e-9)
    np.testing.assert_allclose(smoothed[0], np.mean(path, axis=0), atol=1e-6)


def test_steady_motion_is_followed_without_lag():
    path = [FACE + np.array([1.5 * step, 0]) for step in range(40)]
    smoothed = smooth_landmarks(path, [True] * 40, [None] * 40, 1)
    np.testing.assert_allclose(smoothed[5:-5], path[5:-5], atol=1e-6)


def test_nothing_crosses_a_gap():
    landmarks = [FACE] * 8 + [FACE + 100] * 8
    seen = [True] * 6 + [False] * 4 + [True] * 6
    smoothed = smooth_landmarks(landmarks, seen, [None] * 16, 1)
    np.testing.assert_allclose(smoothed[:6], [FACE] * 6, atol=1e-6)
    np.testing.assert_allclose(smoothed[10:], [FACE + 100] * 6, atol=1e-6)


def test_nothing_is_done_without_steadiness():
    landmarks = trembling([(0, 0)] * 5)
    np.testing.assert_array_equal(smooth_landmarks(landmarks, [True] * 5, [None] * 5, 0), landmarks)
