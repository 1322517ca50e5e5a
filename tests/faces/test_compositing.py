import itertools

import cv2
import numpy as np
import pytest

from difface_diffusers.faces import compositing
from difface_diffusers.faces.alignment import invert, template, transform, warp
from difface_diffusers.faces.compositing import add_changes, is_tinted, match_color, to_gray
from difface_diffusers.faces.masks import face_mask
from tests.faces.test_alignment import similarity


S = 64
MASK = face_mask(template(S), S)


def photo_of(height, width, dtype=np.uint8):
    """A textured photograph, from coarse to as fine as pixels are."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    waves = 0.5 + 0.2 * np.sin(x / 17) * np.cos(y / 23)
    photo = waves[..., None] * (0.9, 0.7, 0.5) + rng.uniform(-0.1, 0.1, (height, width, 3))
    return np.rint(photo.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def crop_of(photo, photo_to_face):
    return warp(photo, photo_to_face, (S, S)).astype(np.float32) / np.iinfo(photo.dtype).max


def mask_in(photo, photo_to_face):
    return warp(MASK, invert(photo_to_face), photo.shape[:2], cv2.BORDER_CONSTANT).clip(0, 1)


class TestAddChanges:
    @pytest.mark.parametrize(("face_width", "degrees"), [*itertools.product((20, 60, 200), (0, -20, 45)), (1000, 45)])
    def test_an_unchanged_face_leaves_every_pixel(self, face_width, degrees):
        side = round(face_width * 3)
        photo = photo_of(side, side + 7)
        photo_to_face = invert(similarity(face_width / 0.55 / S, degrees, (side / 2, side / 4)))
        crop = crop_of(photo, photo_to_face)
        before = photo.copy()
        add_changes(photo, [crop - crop], [MASK], [photo_to_face])
        np.testing.assert_array_equal(photo, before)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize(("scale", "degrees"), [(0.6, 10), (5, -30)])
    def test_a_change_arrives_whole_inside_and_not_at_all_outside(self, dtype, scale, degrees):
        photo = photo_of(500, 420, dtype)
        photo_to_face = invert(similarity(scale, degrees, (150, 160)))
        before = photo.astype(np.int64)
        add_changes(photo, [np.full((S, S, 3), (0.05, 0, -0.05), np.float32)], [MASK], [photo_to_face])
        mask, levels = mask_in(photo, photo_to_face), np.iinfo(dtype).max
        difference = photo - before
        assert (mask == 1).sum() > 100
        assert (difference[mask == 0] == 0).all()
        expected = np.array((0.05, 0, -0.05)) * levels * mask[..., None]
        free = (before > 0.06 * levels) & (before < 0.94 * levels)
        assert np.abs(difference - expected)[free].max() <= 0.51 + 0.0005 * levels

    def test_a_change_lands_where_the_matrix_says(self):
        photo = np.full((300, 300, 3), 100, np.uint8)
        photo_to_face = invert(similarity(3, 25, (80, 40)))
        change = np.zeros((S, S, 3), np.float32)
        change[40:42, 20:22] = 0.4
        add_changes(photo, [change], [MASK], [photo_to_face])
        y, x = np.mgrid[0:300, 0:300] + 0.5
        weight = photo[..., 0].astype(float) - 100
        center = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        np.testing.assert_allclose(center, transform(np.array([(21.0, 41.0)]), invert(photo_to_face))[0], atol=0.1)

    def test_overlapping_faces_share(self):
        photo = np.full((200, 200, 3), 100, np.uint8)
        matrices = [invert(similarity(2, 0, (10, 30))), invert(similarity(2, 15, (70, 30)))]
        change = np.full((S, S, 3), 40 / 255, np.float32)
        add_changes(photo, [change, change], [MASK, MASK], matrices)
        first, second = (mask_in(photo, matrix) for matrix in matrices)
        assert ((first == 1) & (second == 1)).any()
        assert photo.max() == 140  # not twice the change
        assert (photo[(first == 1) & (second == 1)] == 140).all()

    def test_tiles_leave_no_trace(self, monkeypatch):
        change = np.random.default_rng(1).uniform(-0.3, 0.3, (S, S, 3)).astype(np.float32)
        results = []
        for tile in (1024, 37):
            monkeypatch.setattr(compositing, "TILE", tile)
            photo = photo_of(300, 260)
            add_changes(
                photo,
                [change, -change],
                [MASK, MASK],
                [invert(similarity(3, 20, (60, 30))), invert(similarity(2, 0, (90, 90)))],
            )
            results.append(photo.astype(int))
        assert np.abs(results[0] - results[1]).max() <= 1

    def test_a_face_cut_by_the_border(self):
        photo = photo_of(100, 100)
        before = photo.copy()
        add_changes(photo, [np.full((S, S, 3), 0.1, np.float32)], [MASK], [invert(similarity(1.5, 0, (-50, 40)))])
        changed = (photo != before).any(-1)
        assert changed[:, :20].any() and not changed[:, 50:].any()


class TestTint:
    def test_gray_sepia_and_color(self):
        luma = np.random.default_rng(0).uniform(0, 1, (90, 70, 1))
        gray = np.repeat(luma, 3, axis=-1)
        sepia = np.clip(luma ** (0.8, 1, 1.3) * (1, 0.9, 0.75), 0, 1)
        noisy = np.clip(sepia + np.random.default_rng(1).normal(0, 0.005, sepia.shape), 0, 1)
        for picture in (gray, sepia, noisy, np.full((5, 5, 3), 0.4)):
            assert is_tinted(np.rint(picture * 255).astype(np.uint8))
            assert is_tinted(np.rint(picture * 65535).astype(np.uint16))

    def test_a_color_photograph_is_not_tinted(self):
        skin, wall = np.full((40, 40, 3), (200, 150, 120), np.uint8), np.full((40, 40, 3), (120, 150, 200), np.uint8)
        assert not is_tinted(np.concatenate([skin, wall]))
        assert not is_tinted(np.random.default_rng(0).integers(0, 60, (64, 64, 3)).astype(np.uint8) + np.uint8(100))

    def test_to_gray(self):
        gray = to_gray(np.float32([[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]))
        np.testing.assert_allclose(gray[0, :, 0], (0.299, 0.587, 0.114), rtol=1e-6)
        assert (gray == gray[..., :1]).all()


class TestMatchColor:
    def test_coarse_colors_are_those_of_before_and_fine_detail_is_kept(self):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:S, 0:S] / S
        shading = np.stack([0.3 * x, 0.2 * y, 0.1 * (x - y)], axis=-1).astype(np.float32)
        detail = rng.normal(0, 0.1, (S, S, 3)).astype(np.float32)
        detail -= cv2.GaussianBlur(detail, (0, 0), 3)
        matched = match_color(0.5 + detail, 0.3 + shading)
        middle = np.s_[16:-16, 16:-16]
        assert np.abs(matched - (0.3 + shading + detail))[middle].max() < 0.02

    def test_a_face_that_is_not_changed_stays(self):
        crop = np.random.default_rng(0).uniform(0, 1, (S, S, 3)).astype(np.float32)
        np.testing.assert_array_equal(match_color(crop, crop), crop)
