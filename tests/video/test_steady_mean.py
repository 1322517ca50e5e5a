import cv2
import numpy as np
import pytest

from difface_diffusers.video import steady_mean
from difface_diffusers.video.steady_mean import SteadyMean

from .scenes import face


def film(count, noise=0.05, shift=0.0):
    """A face, soft as estimates are, that moves by `shift` pixels a frame: as it is, and in noise."""
    clean = cv2.GaussianBlur(face()[0].astype(np.float32) / 255, (0, 0), 1.5)
    rng = np.random.default_rng(0)
    truth = [
        cv2.warpAffine(clean, np.float32([[1, 0, shift * step], [0, 1, 0]]), (128, 128), flags=cv2.INTER_CUBIC)
        for step in range(count)
    ]
    coarse = [cv2.GaussianBlur(rng.normal(0, 1, clean.shape).astype(np.float32), (0, 0), 1) for _ in truth]
    return truth, [true + noise * 3 * wave for true, wave in zip(truth, coarse, strict=True)]


def mean(pictures, memory=0.9, chunk=5):
    steady, means = SteadyMean(memory), []
    for start in range(0, len(pictures), chunk):
        means += steady.add(pictures[start : start + chunk])
    means += steady.finish()
    assert len(means) == len(pictures)
    return means


def error(pictures, truth):
    inside = np.s_[16:-16, 24:-24]
    return float(
        np.mean([np.abs(picture[inside] - true[inside]).mean() for picture, true in zip(pictures, truth, strict=True)])
    )


def flicker(pictures):
    return float(np.abs(np.diff(pictures, axis=0)).mean())


def test_what_stands_still_flickers_no_longer():
    truth, noisy = film(40)
    means = mean(noisy)
    assert flicker(means) < 0.1 * flicker(noisy) and error(means, truth) < 0.45 * error(noisy, truth)


def test_what_moves_is_followed():
    truth, noisy = film(24, noise=0.03, shift=0.8)
    assert error(mean(noisy), truth) < 0.75 * error(noisy, truth)
    means = mean(truth)
    assert error(means, truth) < 0.01  # nothing is smeared


def test_what_changes_at_once_is_not_mixed():
    """As a hand before the face, or a mouth that opens."""
    truth, _ = film(24)
    changed = [picture.copy() for picture in truth]
    for picture in changed[12:]:
        picture[70:100, 40:90] = 0.9
    means = mean(changed)
    assert np.abs(means[11] - changed[11]).max() < 0.12 and np.abs(means[12] - changed[12]).max() < 0.12
    assert np.abs(means[11] - changed[11])[72:98, 45:85].mean() < 0.01


@pytest.mark.parametrize("count", [1, 2, 9, 23])
def test_it_does_not_matter_how_they_come(count):
    _, noisy = film(count)
    for one, other in zip(mean(noisy, chunk=1), mean(noisy, chunk=8), strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_directions_count_alike():
    _, noisy = film(12)
    backwards = mean(noisy[::-1], chunk=12)[::-1]
    for one, other in zip(mean(noisy, chunk=12), backwards, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_without_memory_all_stay_as_they_are():
    _, noisy = film(3)
    assert SteadyMean(0).add(noisy) == noisy and SteadyMean(0).finish() == []


def test_after_the_end_it_begins_anew():
    _, noisy = film(5)
    steady = SteadyMean(0.9)
    first = [*steady.add(noisy), *steady.finish()]
    second = [*steady.add(noisy), *steady.finish()]
    np.testing.assert_array_equal(first, second)


def test_few_pictures_wait():
    steady, (_, noisy) = SteadyMean(0.9), film(60)
    waiting = 0
    for picture in noisy:
        waiting += 1 - len(steady.add([picture]))
        assert waiting <= steady_mean.BLOCK + steady_mean.LOOKAHEAD
