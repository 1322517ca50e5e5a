import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import restore_photo
from difface_diffusers.evaluation import coarse_psnr, face_metrics
from difface_diffusers.faces.alignment import align, warp
from difface_diffusers.photos.samples import (
    closest_in_identity,
    deviation,
    face_fidelities,
    face_uncertainties,
    photo_uncertainty,
    uncertainty_picture,
)
from tests.conftest import SIZE
from tests.photos.test_restore import KnownFaces, landmarks_at, picture


class MeanColor:
    """The mean color of a face stands for who it is."""

    def compute_face_descriptor(self, chips):
        return [chip.reshape(-1, 3).mean(axis=0) / 255 for chip in chips]


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setattr(face_metrics, "load_identity_network", MeanColor)


@pytest.fixture
def detector():
    return KnownFaces(landmarks_at(40, 60, 60), landmarks_at(100, 50, 50, degrees=15))


@pytest.fixture
def restoration(pipe, detector):
    return restore_photo(pipe, picture(), detector, num_samples=3, generator=torch.Generator().manual_seed(0))


def stack(faces):
    return np.stack([np.asarray(face, np.float32) / 255 for face in faces])


def test_deviation_by_hand():
    """0 and 0.4 deviate by 0.2 * sqrt(2); of three channels one does so, a third of the mean square."""
    samples = torch.zeros(2, 3, 4, 5)
    samples[1, 0, 1, 2] = 0.4
    expected = torch.zeros(4, 5)
    expected[1, 2] = 0.2 * (2 / 3) ** 0.5
    torch.testing.assert_close(deviation(samples), expected)


def test_the_picture_of_uncertainty_is_brightest_from_a_deviation_of_0_15_on():
    colors = uncertainty_picture(np.array([[0, 0.075, 0.15, 0.9]], np.float32))
    assert colors.shape == (1, 4, 3) and colors.dtype == np.uint8
    dark, middle, bright, brighter = colors[0].astype(int).sum(axis=-1)
    assert dark < 20 < middle < bright == brighter and bright > 600


class TestUncertainty:
    def test_of_each_face_is_that_of_its_samples(self, restoration):
        first, second = face_uncertainties(restoration)
        assert first.shape == (SIZE, SIZE) and first.dtype == np.float32
        for uncertainty, rows in ((first, slice(0, 3)), (second, slice(3, 6))):
            expected = np.sqrt(stack(restoration.restored[rows]).var(axis=0, ddof=1).mean(axis=-1))
            np.testing.assert_allclose(uncertainty, expected, atol=1e-6)

    @pytest.mark.parametrize("upscale", [1, 2.5])
    def test_in_the_photograph_lies_where_the_samples_differ(self, pipe, detector, upscale):
        photo = Image.fromarray(picture())
        restoration = restore_photo(pipe, photo, detector, upscale=upscale, num_samples=4)
        uncertainty = photo_uncertainty(restoration)
        assert uncertainty.shape == (120 * upscale, 150 * upscale) and uncertainty.dtype == np.float32
        spread = np.sqrt(stack(restoration.images).var(axis=0, ddof=1).mean(axis=-1))
        assert not spread[uncertainty == 0].max() > 1 / 255
        assert np.corrcoef(uncertainty.ravel(), spread.ravel())[0, 1] > 0.95
        inside = uncertainty > 0.75 * uncertainty.max()
        assert uncertainty[inside].mean() == pytest.approx(
            spread[inside].mean(), rel=0.3
        )  # clipped, and warped before or after

    def test_face_and_photograph_agree(self, restoration):
        photo, faces = photo_uncertainty(restoration), face_uncertainties(restoration)
        for face, uncertainty in zip(restoration.faces, faces, strict=True):
            seen = warp(photo, align(2 * face.landmarks, SIZE), (SIZE, SIZE))
            middle = np.s_[8:-8, 8:-8]
            assert np.corrcoef(seen[middle].ravel(), uncertainty[middle].ravel())[0, 1] > 0.7

    def test_without_faces_there_is_none(self, pipe):
        restoration = restore_photo(pipe, picture(), faces=[], num_samples=2)
        assert face_uncertainties(restoration) == [] and not photo_uncertainty(restoration).any()

    def test_one_sample_has_none(self, pipe, detector):
        with pytest.raises(ValueError, match="uncertainty needs `num_samples` of 2 at least"):
            face_uncertainties(restore_photo(pipe, picture(), detector))


def test_fidelity_is_measured_against_the_face_before(restoration):
    first, second = face_fidelities(restoration)
    assert len(first.identity_distance) == len(second.coarse_psnr) == 3
    crop, sample = (torch.from_numpy(face).permute(2, 0, 1)[None] for face in stack(
        [restoration.crops[1], restoration.restored[4]]
    ))  # fmt: skip
    assert second.coarse_psnr[1] == pytest.approx(coarse_psnr(sample, crop).item())
    distance = (face_metrics.embed(sample) - face_metrics.embed(crop)).norm().item()
    assert second.identity_distance[1] == pytest.approx(distance)


class TestPick:
    def test_each_face_gets_its_nearest_sample(self):
        crops = [np.full((32, 32, 3), level, np.float32) for level in (0.2, 0.8)]
        versions = [[crops[0] + near, crops[1] + far] for near, far in ((0.1, 0.02), (0.03, 0.1), (-0.2, -0.3))]
        nearest = closest_in_identity(crops, versions)
        assert [face[0, 0, 0] for face in nearest] == pytest.approx([0.23, 0.82])

    def test_makes_one_photograph_and_keeps_all_samples(self, pipe, detector):
        arguments = {"num_samples": 3, "upscale": 1}
        several = restore_photo(pipe, picture(), detector, generator=torch.Generator().manual_seed(0), **arguments)
        one = restore_photo(
            pipe, picture(), detector, generator=torch.Generator().manual_seed(0), pick="identity", **arguments
        )
        assert len(several.images) == 3 and len(one.images) == 1
        np.testing.assert_array_equal(stack(one.restored), stack(several.restored))
        left, right = (int(np.argmin(each.identity_distance)) for each in face_fidelities(one))
        np.testing.assert_array_equal(one.image[:, :60], several.images[left][:, :60])
        np.testing.assert_array_equal(one.image[:, 90:], several.images[right][:, 90:])
        assert photo_uncertainty(one).max() > 0

    def test_refuses_what_it_does_not_know(self, pipe, detector):
        with pytest.raises(ValueError, match="`pick` is 'beauty'; it must be one of None, identity"):
            restore_photo(pipe, picture(), detector, pick="beauty")
