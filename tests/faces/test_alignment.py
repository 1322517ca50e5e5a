import numpy as np
import pytest

from difface_diffusers.faces.alignment import (
    TEMPLATE_512,
    align,
    compose,
    estimate_similarity,
    invert,
    scale_of,
    template,
    transform,
    warp,
)


def similarity(scale, degrees, shift):
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, shift])


@pytest.fixture
def picture():
    """Smooth, and different along every axis and in every channel."""
    y, x = np.mgrid[0:60, 0:80].astype(np.float32)
    channels = [np.sin(x / 9) + np.cos(y / 7), np.sin(x / 5 + y / 11), np.cos(x / 13 - y / 6)]
    return (0.5 + 0.2 * np.stack(channels, axis=-1)).astype(np.float32)


class TestEstimateSimilarity:
    @pytest.mark.parametrize(("scale", "degrees", "shift"), [(1, 0, (0, 0)), (0.2, 33, (5, -7)), (7, -160, (100, 3))])
    def test_recovers_a_similarity(self, scale, degrees, shift):
        expected = similarity(scale, degrees, shift)
        found = estimate_similarity(TEMPLATE_512, transform(TEMPLATE_512, expected))
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_is_the_least_squares_fit(self):
        rng = np.random.default_rng(0)
        source, target = rng.normal(size=(5, 2)) * 50, TEMPLATE_512 + rng.normal(size=(5, 2)) * 20
        target[:, 0] += 0.5 * source[:, 0]
        # A similarity is linear in (a, b, x, y): (a x - b y, b x + a y) + shift.
        ones, zeros = np.ones(5), np.zeros(5)
        system = np.concatenate([
            np.stack([source[:, 0], -source[:, 1], ones, zeros], 1), np.stack([source[:, 1], source[:, 0], zeros, ones], 1)
        ])  # fmt: skip
        (a, b, x, y), *_ = np.linalg.lstsq(system, np.concatenate(target.T), rcond=None)
        np.testing.assert_allclose(estimate_similarity(source, target), [[a, -b, x], [b, a, y]], atol=1e-8)

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (np.full((5, 2), 3.0), "lie on one spot"),
            (np.zeros((5, 3)), "must be \\[K,2\\]"),
            (np.zeros((4, 2)), "must be \\[K,2\\]"),
            (np.full((5, 2), np.nan), "NaN or infinite"),
        ],
    )
    def test_refuses_what_fixes_no_similarity(self, points, message):
        with pytest.raises(ValueError, match=message):
            estimate_similarity(points, TEMPLATE_512)


def test_align_brings_the_landmarks_to_the_template():
    photo_to_face = align(transform(TEMPLATE_512, similarity(0.3, 20, (40, 90))), 128)
    landmarks = transform(TEMPLATE_512, similarity(0.3, 20, (40, 90)))
    np.testing.assert_allclose(transform(landmarks, photo_to_face), template(128), atol=1e-9)
    np.testing.assert_allclose(template(128), TEMPLATE_512 / 4)
    assert scale_of(photo_to_face) == pytest.approx(128 / 512 / 0.3)


def test_compose_and_invert():
    first, second = similarity(2, 30, (1, 2)), similarity(0.7, -80, (3, -5))
    points = np.array([(1.0, 5.0), (-3.0, 2.0)])
    np.testing.assert_allclose(transform(points, compose(first, second)), transform(transform(points, first), second))
    np.testing.assert_allclose(transform(transform(points, first), invert(first)), points, atol=1e-12)


class TestWarp:
    def test_the_identity_copies(self, picture):
        np.testing.assert_allclose(warp(picture, similarity(1, 0, (0, 0)), (60, 80)), picture, atol=1e-6)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_a_quarter_turn_about_the_corner_is_exact(self, picture, dtype):
        """Pins the direction, the (x, y) order and the corner rule at once."""
        picture = (picture * (255 if dtype == np.uint8 else 65535)).astype(dtype)
        turned = warp(picture, np.array([[0.0, -1, 60], [1, 0, 0]]), (80, 60))  # (x, y) -> (60 - y, x): clockwise
        np.testing.assert_array_equal(turned, np.rot90(picture, -1))
        assert turned.dtype == dtype

    def test_enlarging_keeps_the_corner(self, picture):
        large = warp(picture, similarity(3, 0, (0, 0)), (180, 240))
        means = large.reshape(60, 3, 80, 3, 3).mean((1, 3))
        assert np.abs(means - picture)[2:-2, 2:-2].max() < 0.003

    def test_shrinking_is_antialiased(self):
        checkers = (np.indices((200, 200)).sum(0) % 2).astype(np.float32)
        assert np.abs(warp(checkers, similarity(0.17, 25, (5, 3)), (24, 24)) - 0.5).max() < 0.06

    def test_shrinking_keeps_the_place(self, picture):
        large = warp(picture, similarity(6, 0, (0, 0)), (360, 480))
        assert np.abs(warp(large, similarity(1 / 6, 0, (0, 0)), (60, 80)) - picture)[3:-3, 3:-3].max() < 0.01

    def test_a_part_is_the_part_of_the_whole(self, picture):
        matrix = similarity(1.7, 35, (-20, 4))
        whole = warp(picture, matrix, (90, 110))
        part = warp(picture, compose(matrix, similarity(1, 0, (-30, -50))), (20, 40))
        np.testing.assert_allclose(part, whole[50:70, 30:70], atol=2e-3)

    def test_beyond_the_edge_the_picture_is_mirrored(self, picture):
        beyond = warp(picture, similarity(1, 0, (10, 5)), (65, 90))
        np.testing.assert_allclose(beyond[5:, 10:], picture, atol=1e-6)
        np.testing.assert_allclose(beyond[5:, :10], picture[:, 9::-1], atol=1e-6)

    def test_wholly_outside(self, picture):
        assert warp(picture, similarity(1, 0, (1000, 1000)), (8, 8)).shape == (8, 8, 3)

    def test_one_pixel(self):
        assert (warp(np.full((1, 1, 3), 7, np.uint8), similarity(20, 10, (0, 0)), (16, 16)) == 7).all()
