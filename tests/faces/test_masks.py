import cv2
import numpy as np
import pytest

from difface_diffusers.faces.alignment import template
from difface_diffusers.faces.masks import face_mask, fitting_mask, smooth_step


S = 128
LANDMARKS = template(S)
ROWS, COLUMNS = np.mgrid[0:S, 0:S]


@pytest.mark.parametrize("side", [64, 128, 512])
def test_one_in_the_face_and_nought_at_the_border(side):
    mask = face_mask(template(side), side)
    assert mask.dtype == np.float32 and mask.shape == (side, side)
    for x, y in ((0.5, 0.3), (0.5, 0.6), (0.25, 0.5), (0.75, 0.5), (0.5, 0.88)):  # forehead, nose, cheeks, chin
        assert mask[int(y * side), int(x * side)] == 1
    border = np.concatenate([mask[[0, -1]].ravel(), mask[:, [0, -1]].ravel()])
    assert border.max() < 0.1 and mask[: side // 30, : side // 30].max() == 0


def test_has_no_step():
    mask = face_mask(LANDMARKS, S)
    assert max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1)) < 0.2


def test_follows_the_landmarks():
    """A head that is turned has them on one side."""
    turned = face_mask(LANDMARKS - (0.12 * S, 0), S)
    assert turned[S // 2, int(0.82 * S)] < 0.5 == pytest.approx(turned[S // 2, int(0.7 * S)], abs=0.5)
    assert face_mask(LANDMARKS, S)[S // 2, int(0.82 * S)] > 0.9


def test_where_nothing_coarse_changed_it_is_the_mask_of_the_face():
    fine = np.where((ROWS + COLUMNS) % 2 == 0, 0.1, -0.1).astype(np.float32)
    change = np.repeat(fine[..., None], 3, axis=-1)
    np.testing.assert_allclose(fitting_mask(LANDMARKS, change), face_mask(LANDMARKS, S), atol=1e-3)


def test_falls_off_sooner_where_the_pictures_do_not_fit():
    """Hair that has moved, in the part that fades; in the face the change may be as large."""
    change = np.zeros((S, S, 3), np.float32)
    change[14:28, 40:90] = 0.2
    change[60:80, 50:70] = 0.2
    mask, whole = fitting_mask(LANDMARKS, change), face_mask(LANDMARKS, S)
    fading = np.zeros((S, S), bool)
    fading[18:25, 50:80] = True
    fading &= (whole > 0.2) & (whole < 0.8)
    assert fading.sum() > 20 and (mask[fading] < 0.5 * whole[fading]).all()
    assert (mask[50:100, 40:90] == whole[50:100, 40:90]).all()
    assert (mask <= whole).all()


def test_an_outline_at_the_edge_leaves_a_smaller_step():
    """What a bright line along hair or cheek is: a change that is cut off in its middle."""
    change = np.repeat(cv2.GaussianBlur((np.abs(COLUMNS - 16) < 4) * 0.3, (0, 0), 1)[..., None], 3, axis=-1)
    shown = [np.abs(change[..., 0] * mask) for mask in (face_mask(LANDMARKS, S), fitting_mask(LANDMARKS, change))]
    assert shown[1].max() < 0.75 * shown[0].max()


def test_smooth_step():
    np.testing.assert_allclose(smooth_step(1, 3, np.array([0, 1, 2, 3, 4.0])), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smooth_step(3, 1, np.array([0, 2, 4.0])), [1, 0.5, 0])
    assert smooth_step(0, 1, 0.5) == 0.5
