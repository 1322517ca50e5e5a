import cv2
import numpy as np
import pytest

from difface_diffusers.faces import Face
from difface_diffusers.faces.alignment import template
from difface_diffusers.faces.crops import align_faces
from difface_diffusers.photos.pasting import put_back
from difface_diffusers.photos.treatment import FaceTreatment


SIDE = 128
WHOLE, SPARED = FaceTreatment(1.0, 1, 1, 1, ""), FaceTreatment(0.1, 0, 0, 0, "")


@pytest.fixture
def photo():
    """A wall with grain."""
    noise = np.random.default_rng(0).normal(0, 8, (300, 300, 1))
    return np.rint(np.clip(128 + noise + np.zeros(3), 0, 255)).astype(np.uint8)


def aligned_in(photo, *corners):
    faces = [Face((0, 0, 1, 1), template(SIDE) + corner, 1.0) for corner in corners]
    return align_faces(photo, faces, SIDE, keep_tint=False)


def fineness(picture, part):
    return np.abs(np.diff(picture[part].astype(float), axis=1)).mean()


MIDDLE = np.s_[110:180, 110:170]


@pytest.mark.parametrize("match_grain", ["auto", "off"])
def test_a_smoothed_face_gets_its_grain_back(photo, match_grain):
    aligned, canvas = aligned_in(photo, (80, 80)), photo.copy()
    smooth = [np.full((SIDE, SIDE, 3), 128 / 255, np.float32)]
    put_back(canvas, aligned, smooth, smooth, [WHOLE], match_grain)
    share = fineness(canvas, MIDDLE) / fineness(photo, MIDDLE)
    assert share == pytest.approx(1, abs=0.2) if match_grain == "auto" else share < 0.2


def test_a_spared_face_stays_to_the_last_bit_whatever_the_grain(photo):
    photo[80:208, 80:208] = 128  # it is smooth in a grainy photograph
    aligned, canvas = aligned_in(photo, (80, 80)), photo.copy()
    painted = [np.random.default_rng(1).random((SIDE, SIDE, 3), np.float32)]
    put_back(canvas, aligned, painted, painted, [SPARED], "auto")
    np.testing.assert_array_equal(canvas, photo)


def test_each_face_has_its_own_treatment(photo):
    aligned, canvas = aligned_in(photo, (0, 80), (170, 80)), photo.copy()
    painted = [np.clip(crop + 0.1 * np.sign(crop - 0.5), 0, 1) for crop in aligned.crops]
    put_back(canvas, aligned, painted, painted, [SPARED, WHOLE], "off")
    changed = (canvas != photo).any(axis=(0, 2))
    assert not changed[:160].any() and changed[200:280].all()


def test_the_face_is_the_restored_one_whatever_the_background_was_enlarged_by(photo):
    """A network that enlarges sharpens faces too; the change is not added on top of that."""
    aligned = aligned_in(photo, (80, 80))
    plain = photo.repeat(2, axis=0).repeat(2, axis=1)
    sharpened = np.clip(2 * plain.astype(float) - 128, 0, 255).astype(np.uint8)
    painted = [np.clip(0.5 + 0.1 * np.sin(np.arange(SIDE) / 3)[:, None, None] * np.ones((1, SIDE, 3)), 0, 1)]
    painted = [painted[0].astype(np.float32)]
    for canvas in (plain, sharpened):
        put_back(canvas, aligned, painted, painted, [WHOLE], "off")
    shown = [cv2.GaussianBlur(canvas[240:340, 240:320].astype(float), (0, 0), 4) for canvas in (plain, sharpened)]
    assert np.abs(shown[0] - shown[1]).max() < 8
