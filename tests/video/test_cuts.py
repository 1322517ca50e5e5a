import numpy as np
import pytest

from difface_diffusers.video.cuts import CutFinder

from .scenes import background, draw, noisy, place


def cuts(frames):
    finder = CutFinder()
    return [number for number, frame in enumerate(frames) if finder.is_cut(frame)]


def moving(count, seed=0, strength=4):
    """A face that crosses the picture quickly, in noise."""
    for step in range(count):
        frame, _ = draw(background(seed), place(80 + 8 * step, 100, 0.9))
        yield noisy(frame, strength, step)


def test_a_scene_begins_with_the_first_frame_and_where_the_picture_is_another():
    assert cuts([*moving(9, 0), *moving(6, 1), *moving(7, 5)]) == [0, 9, 15]


@pytest.mark.parametrize("strength", [0, 25])
def test_motion_and_noise_are_no_cut(strength):
    assert cuts(moving(20, strength=strength)) == [0]


def test_a_pan_is_no_cut():
    wide = np.concatenate([background(0), background(0)[:, ::-1]], axis=1)
    assert cuts(wide[:, start : start + 200] for start in range(0, 400, 15)) == [0]


def test_a_slow_fade_is_no_cut():
    assert cuts(noisy(background(0) * share, 3, 0) for share in np.linspace(1, 0, 25)) == [0]


def test_frames_of_16_bits_and_of_one_pixel():
    assert cuts([background(0).astype(np.uint16) * 257, background(0).astype(np.uint16) * 257]) == [0]
    assert cuts([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)]) == [0, 1]
