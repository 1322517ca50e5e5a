import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import DifFaceInpaintPipeline, LaMaEstimator
from difface_diffusers.faces.alignment import align, warp
from difface_diffusers.photos.damage import fill_damage, fill_plainly

from ..conftest import SIZE, ddim, tiny_unet
from .test_restore import KnownFaces, landmarks_at, picture


@pytest.fixture
def inpainter():
    torch.manual_seed(4)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=3)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def detector():
    """A face of 50 pixels round (100, 50) and one of 60 round (40, 60)."""
    return KnownFaces(landmarks_at(100, 50, 50, degrees=15), landmarks_at(40, 60, 60))


@pytest.fixture
def damage():
    """A scratch through the right face and a hole in the corner, `[120,150]`."""
    mask = np.zeros((120, 150), np.uint8)
    cv2.line(mask, (80, 40), (120, 60), 255, 4)
    mask[105:115, 130:145] = 255
    return mask


def fill(inpainter, detector, photo, mask, seed=0, **arguments):
    return fill_damage(inpainter, photo, mask, detector, generator=torch.Generator().manual_seed(seed), **arguments)


class TestWhatIsFilled:
    def test_faces_by_the_model_and_the_rest_from_its_surroundings(self, inpainter, detector, damage):
        photo = picture()
        plain = fill_plainly(photo, damage > 0)
        filled = fill(inpainter, detector, photo, damage).image
        np.testing.assert_array_equal(filled[damage == 0], photo[damage == 0])
        np.testing.assert_array_equal(filled[105:115, 130:145], plain[105:115, 130:145])
        in_face = np.s_[45:55, 95:105]
        assert (filled[in_face] != plain[in_face])[damage[in_face] > 0].mean() > 0.5

    def test_a_model_of_faces_that_are_not_square_sees_the_same_damage(self, inpainter, detector, damage, monkeypatch):
        seen = []
        call = DifFaceInpaintPipeline.__call__

        def record(self, image, mask_image, **arguments):
            seen.append((image, mask_image))
            return call(self, image, mask_image, **arguments)

        monkeypatch.setattr(DifFaceInpaintPipeline, "__call__", record)
        for size in (SIZE, (SIZE, 2 * SIZE)):
            inpainter.unet.register_to_config(sample_size=size)
            fill(inpainter, detector, picture(), damage)
        (square, mask), (same, same_mask) = seen
        np.testing.assert_array_equal(same, square)
        np.testing.assert_array_equal(same_mask, mask)

    def test_the_model_sees_the_damage_of_the_upright_face(self, inpainter, detector, damage, monkeypatch):
        seen = []
        call = DifFaceInpaintPipeline.__call__

        def record(self, image, mask_image, **arguments):
            seen.append((image, mask_image))
            return call(self, image, mask_image, **arguments)

        monkeypatch.setattr(DifFaceInpaintPipeline, "__call__", record)
        fill(inpainter, detector, picture(), damage)
        ((crops, masks),) = seen
        assert crops.shape == (1, SIZE, SIZE, 3) and masks.shape == (1, SIZE, SIZE, 1)
        expected = warp((damage / 255).astype(np.float32), align(detector.faces[0].landmarks, SIZE), (SIZE, SIZE))
        assert (masks[0, ..., 0] == (expected > 0.01)).all() and 0.02 < masks.mean() < 0.3

    def test_says_which_faces(self, inpainter, detector, damage):
        assert fill(inpainter, detector, picture(), damage).faces == detector.faces[:1]
        damage[60, 40] = 255
        assert len(fill(inpainter, detector, picture(), damage).faces) == 2

    def test_faces_by_hand_need_no_detector(self, inpainter, damage):
        class Blind:
            def detect(self, photo):
                raise AssertionError

        landmarks = landmarks_at(100, 50, 50)
        (face,) = fill(inpainter, Blind(), picture(), damage, faces=[landmarks]).faces
        np.testing.assert_array_equal(face.landmarks, landmarks)

    @pytest.mark.parametrize("faces", ["largest", "center", [1]])
    def test_every_face_is_filled_whichever_is_to_be_restored(self, inpainter, detector, damage, faces):
        damage[60, 40] = 255
        assert len(fill(inpainter, detector, picture(), damage, faces=faces).faces) == 2

    def test_small_faces_are_left_to_the_surroundings(self, inpainter, detector, damage):
        photo = picture()
        filled = fill(inpainter, detector, photo, damage, min_face_size=500)
        assert filled.faces == []
        np.testing.assert_array_equal(filled.image, fill_plainly(photo, damage > 0))

    def test_no_damage(self, inpainter, detector):
        photo = picture()
        filled = fill(inpainter, detector, photo, np.zeros((120, 150)))
        np.testing.assert_array_equal(filled.image, photo)
        assert filled.faces == []

    def test_a_scratch_thinner_than_the_model_s_pixels(self, inpainter):
        photo, damage = picture(400, 400), np.zeros((400, 400), np.uint8)
        damage[200, 100:300] = 255
        filled = fill(inpainter, KnownFaces(landmarks_at(200, 200, 380)), photo, damage)
        assert len(filled.faces) == 1
        assert (filled.image != fill_plainly(photo, damage > 0)).any()


class TestForm:
    @pytest.mark.parametrize(
        "photo",
        [picture(), picture(dtype=np.uint16), picture()[..., 0], picture()[..., :2],
         np.dstack([picture(), picture()[..., 0]]), Image.fromarray(picture())],
        ids=["rgb", "rgb16", "gray", "gray+alpha", "rgba", "pil"],
    )  # fmt: skip
    def test_stays_and_so_does_every_whole_pixel(self, inpainter, detector, damage, photo):
        filled = fill(inpainter, detector, photo, damage).image
        assert type(filled) is type(photo)
        before, after = np.asarray(photo), np.asarray(filled)
        assert after.dtype == before.dtype and after.shape == before.shape
        np.testing.assert_array_equal(after[damage == 0], before[damage == 0])
        assert (after != before)[damage > 0].any()

    def test_sepia_stays(self, inpainter, detector, damage):
        photo = np.rint(picture()[..., :1] * np.array([1, 0.9, 0.75])).astype(np.uint8)
        filled = fill(inpainter, detector, photo, damage).image
        hole = damage > 0
        change = filled[hole].astype(int) - fill_plainly(photo, hole)[hole]
        assert np.abs(change).max() > 5
        unclipped = (filled[hole] > 0).all(-1) & (filled[hole] < 255).all(-1)
        assert np.ptp(change[unclipped], axis=-1).max() <= 2

    def test_a_mask_of_another_size_is_fitted(self, inpainter, detector, damage):
        double = damage.repeat(2, axis=0).repeat(2, axis=1)
        expected, result = (fill(inpainter, detector, picture(), mask).image for mask in (damage, double))
        np.testing.assert_array_equal(result, expected)

    def test_the_input_is_not_changed(self, inpainter, detector, damage):
        photo, before = picture(), picture()
        fill(inpainter, detector, photo, damage)
        np.testing.assert_array_equal(photo, before)


class TestNoise:
    def test_comes_from_the_generator_alone(self, inpainter, detector, damage):
        first, again, other = (fill(inpainter, detector, picture(), damage, seed).image for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_does_not_depend_on_the_batches(self, inpainter, detector, damage):
        damage[50:70, 30:50] = 255
        together, alone = (
            fill(inpainter, detector, picture(), damage, batch_size=size).image.astype(int) for size in (8, 1)
        )
        assert np.abs(together - alone).max() <= 1

    def test_settings_reach_the_model(self, inpainter, detector, damage):
        fill(inpainter, detector, picture(), damage, num_inference_steps=5)
        assert inpainter.num_timesteps == 5


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((120, 150)), ValueError, "`damage_mask` covers the whole photograph"),
        (np.full((120, 150), np.nan), ValueError, "`damage_mask` has values from nan to nan"),
        (np.zeros((120, 150, 2)), ValueError, r"`damage_mask` is of shape \[120, 150, 2\]"),
        ([np.zeros((120, 150))] * 2, ValueError, "`damage_mask` holds 2 masks; it must hold 1"),
        ("mask.png", TypeError, "`damage_mask` is a str"),
    ],
)
def test_refuses(inpainter, detector, mask, error, message):
    with pytest.raises(error, match=message):
        fill(inpainter, detector, picture(), mask)
