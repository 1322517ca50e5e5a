import numpy as np
import pytest

from difface_diffusers.faces import Face
from difface_diffusers.faces.alignment import template, transform
from difface_diffusers.faces.crops import (
    align_faces,
    canvas_to_faces,
    cut_out,
    landmarks_in_crops,
    outline_faces,
)


SIDE = 64


def face_at(left, top, width):
    """The face whose aligned square has this corner and width."""
    return Face((0.0, 0.0, 1.0, 1.0), template(512) * (width / 512) + (left, top), 1.0)


@pytest.fixture
def photo():
    """Smooth, different along both axes and in every channel; `[90,140,3]`."""
    y, x = np.mgrid[0:90, 0:140]
    return np.rint(np.stack([x, y, (x + y) / 2], axis=-1) + 40).astype(np.uint8)


def test_crops_show_the_faces(photo):
    aligned = align_faces(photo, [face_at(10, 20, 64), face_at(70, 5, 32)], SIDE, keep_tint=False)
    assert aligned.photo_size == (90, 140) and not aligned.keep_tint
    np.testing.assert_allclose(aligned.crops[0], photo[20:84, 10:74] / 255, atol=1e-3)
    np.testing.assert_allclose(aligned.crops[1].mean((0, 1)), photo[5:37, 70:102].mean((0, 1)) / 255, atol=2e-3)


def test_crops_of_16_bits_are_finer(photo):
    deep = photo.astype(np.uint16) * 257 + 100
    (crop,) = align_faces(deep, [face_at(10, 20, 64)], SIDE, keep_tint=False).crops
    np.testing.assert_allclose(crop, deep[20:84, 10:74] / 65535, atol=1e-5)


def test_crops_of_a_tinted_photograph_are_gray(photo):
    (crop,) = align_faces(photo, [face_at(10, 20, 64)], SIDE, keep_tint=True).crops
    assert np.ptp(crop, axis=-1).max() == 0
    np.testing.assert_allclose(crop[..., 0], photo[20:84, 10:74] @ (0.299, 0.587, 0.114) / 255, atol=1e-3)


@pytest.mark.parametrize("keep_tint", [False, True])
@pytest.mark.parametrize("enlargement", [1, 2, 3])
def test_the_same_faces_in_an_enlarged_photograph(photo, enlargement, keep_tint):
    aligned = align_faces(photo, [face_at(10, 20, 50), face_at(70, 5, 32)], SIDE, keep_tint)
    canvas = photo.repeat(enlargement, axis=0).repeat(enlargement, axis=1)
    for crop, seen in zip(
        aligned.crops, cut_out(canvas, canvas_to_faces(canvas, aligned), SIDE, keep_tint), strict=True
    ):
        np.testing.assert_allclose(seen, crop, atol=0 if enlargement == 1 else 0.01)


@pytest.mark.parametrize("enlargement", [1, 2])
def test_matrices_of_an_enlarged_photograph(photo, enlargement):
    aligned = align_faces(photo, [face_at(10, 20, 64)], SIDE, keep_tint=False)
    canvas = photo.repeat(enlargement, axis=0).repeat(enlargement, axis=1)
    (matrix,) = canvas_to_faces(canvas, aligned)
    np.testing.assert_allclose(transform(np.array([(10.0, 20.0)]) * enlargement, matrix), [(0, 0)], atol=1e-6)
    np.testing.assert_allclose(transform(np.array([(74.0, 84.0)]) * enlargement, matrix), [(64, 64)], atol=1e-6)


def test_the_outline(photo):
    aligned = align_faces(photo, [face_at(30, 20, 60)], SIDE, keep_tint=False)
    canvas = photo.copy()
    outline_faces(canvas, aligned)
    rows, columns = np.nonzero((canvas != photo).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 80, 30, 90)
    assert (canvas[20, 40:80] == (0, 255, 0)).all() and (canvas[50, 60] == photo[50, 60]).all()


def test_landmarks_in_the_crops(photo):
    aligned = align_faces(photo, [face_at(30, 20, 60)], SIDE, keep_tint=False)
    (landmarks,) = landmarks_in_crops(aligned)
    np.testing.assert_allclose(landmarks, template(SIDE), atol=1e-3)
