import cv2
import numpy as np
import pytest

from difface_diffusers.faces.alignment import align, invert, template, warp
from difface_diffusers.faces.grain import add_grain
from difface_diffusers.faces.masks import face_mask


S = 96
MASK = face_mask(template(S), S)
SIDE, CORNER = 160, (120, 80)  # of the face, in the photograph
SPOT = np.s_[CORNER[1] + 60 : CORNER[1] + 110, CORNER[0] + 55 : CORNER[0] + 105]  # its middle


def matrix_of(side=SIDE, corner=CORNER):
    return align(template(side) + corner, S)


def photo_of(deviation, color=(1, 1, 1), enlarged=1, dtype=np.uint8, smooth=True):
    """A shaded wall with grain, and on it a face without any."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:400, 0:440]
    grain = rng.normal(0, deviation, (400 // enlarged, 440 // enlarged, 1)).repeat(enlarged, 0).repeat(enlarged, 1)
    wall = 0.45 + 0.1 * np.sin(x / 90) * np.cos(y / 70)
    shown = warp(MASK, invert(matrix_of()), wall.shape, 0)[..., None] if smooth else 0
    picture = wall[..., None] + grain * (1 - shown) * np.array(color)
    return np.rint(picture.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def fine(photo, part):
    values = photo[part].astype(float) / np.iinfo(photo.dtype).max
    return values - values.mean(axis=(0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("deviation", "enlarged"), [(0.03, 1), (0.06, 1), (0.04, 2)])
def test_a_smooth_face_gets_the_grain_of_its_surroundings(deviation, enlarged, dtype):
    photo = photo_of(deviation, enlarged=enlarged, dtype=dtype)
    wall, before = fine(photo, np.s_[:60, :60]), photo.copy()
    add_grain(photo, [MASK], [matrix_of()], enlarged)
    face = fine(photo, SPOT)
    assert face.std() == pytest.approx(wall.std(), rel=0.25)
    untouched = warp(MASK, invert(matrix_of()), photo.shape[:2], 0) <= 0
    assert (photo[untouched] == before[untouched]).all()


def test_grain_is_as_coarse_and_as_colored():
    photo = photo_of(0.05, color=(1, 0.5, 0.2), enlarged=2)
    add_grain(photo, [MASK], [matrix_of()], 2)
    face, wall = fine(photo, SPOT), fine(photo, np.s_[:60, :60])
    np.testing.assert_allclose(face.std(axis=(0, 1)) / face.std(), wall.std(axis=(0, 1)) / wall.std(), rtol=0.2)

    def correlation(values):
        gray = values.mean(-1)
        return (gray[:, 1:] * gray[:, :-1]).mean() / (gray**2).mean()

    assert correlation(face) == pytest.approx(correlation(wall), abs=0.15)


@pytest.mark.parametrize("photo", [photo_of(0), photo_of(0.002), photo_of(0.04, smooth=False)])
def test_where_nothing_is_missing_every_pixel_stays(photo):
    before = photo.copy()
    add_grain(photo, [MASK], [matrix_of()])
    np.testing.assert_array_equal(photo, before)


def test_the_same_again():
    first, second = photo_of(0.04), photo_of(0.04)
    for photo in (first, second):
        add_grain(photo, [MASK], [matrix_of()])
    np.testing.assert_array_equal(first, second)


def test_a_face_that_fills_the_photograph_has_nothing_to_go_by():
    photo = photo_of(0.04)[80:240, 120:280].copy()
    before = photo.copy()
    add_grain(photo, [np.ones_like(MASK)], [matrix_of(corner=(0, 0))])
    np.testing.assert_array_equal(photo, before)


def test_the_neighbor_is_not_taken_for_the_surroundings():
    """Of two faces side by side in a grainy picture neither is measured for the other."""
    photo = photo_of(0.04)
    masks, matrices = [MASK, MASK], [matrix_of(), matrix_of(corner=(270, 80))]
    photo[80:240, 270:430] = 128
    add_grain(photo, masks, matrices)
    assert fine(photo, SPOT).std() == pytest.approx(0.04, rel=0.3)


def test_grain_of_a_large_face_was_not_taken_away():
    """It is finer than the model's pixels, and those are all that the restoration changes."""
    photo = photo_of(0.04)
    before = photo.copy()
    add_grain(photo, [np.pad(np.ones((16, 16), np.float32), 8)], [align(template(SIDE) + CORNER, 32)])
    np.testing.assert_array_equal(photo, before)


def test_texture_is_no_grain():
    """Hair, cloth and leaves around a face before a black wall: nothing there is flat."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (400, 440, 3)), (0, 0), 2)
    texture += cv2.GaussianBlur(rng.normal(0, 1, (400, 440, 3)), (0, 0), sigmaX=6, sigmaY=0.7)
    shown = warp(MASK, invert(matrix_of()), (400, 440), 0)[..., None]
    leaves = np.clip(0.5 + 0.6 * texture, 0, 1)
    leaves[:, :60] = 0
    photo = np.rint((leaves * (1 - shown) + 0.5 * shown) * 255).astype(np.uint8)
    before = photo.copy()
    add_grain(photo, [MASK], [matrix_of()])
    np.testing.assert_array_equal(photo, before)
