import math
import sys

import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.evaluation import face_metrics, frechet_distance, identity_distance, landmark_distance
from tests.evaluation.test_metrics import ASTRONAUT, batch, constant, read_astronaut


class FakeNetwork:
    """Keeps the chips it is shown; their mean colors are the embeddings."""

    def __init__(self):
        self.calls = []

    def compute_face_descriptor(self, chips):
        self.calls.append(chips)
        return [chip.reshape(-1, 3).mean(axis=0) for chip in chips]


@pytest.fixture
def network(monkeypatch):
    network = FakeNetwork()
    monkeypatch.setattr(face_metrics, "load_identity_network", lambda: network)
    return network


# Identity


@pytest.mark.parametrize("size", [128, 256, 512])
def test_chip_puts_eyes_and_nose_where_dlib_expects_them(network, size):
    """Dots at the five mean points of an FFHQ-aligned face come out at dlib's mean shape, padded by a quarter."""
    points = [(0.6705, 0.4755), (0.5712, 0.4798), (0.3257, 0.4754), (0.4244, 0.4800), (0.4957, 0.6640)]
    dlib_points = [(0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)]
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
    for (point_x, point_y), (dlib_x, dlib_y) in zip(points, dlib_points, strict=True):
        dot = torch.exp(-((x - point_x) ** 2 + (y - point_y) ** 2) / (2 * 0.015**2)).expand(1, 3, -1, -1)
        identity_distance(dot, dot)
        chip = network.calls[-1][0][..., 0]
        assert chip.shape == (150, 150)
        row, column = np.unravel_index(chip.argmax(), chip.shape)
        assert (column, row) == pytest.approx(((dlib_x + 0.25) * 100, (dlib_y + 0.25) * 100), abs=2.5)


def test_network_sees_rgb_bytes(network):
    color = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    identity_distance(color, color)
    chip = network.calls[0][0]
    assert chip.dtype == np.uint8 and chip.flags.c_contiguous
    assert (chip == [255, 128, 0]).all()


def test_distance_is_euclidean_and_pairs_by_position(network):
    reference = constant(0.0, 0.0, size=64)
    image = torch.zeros(2, 3, 64, 64)
    image[1, 0], image[1, 2] = 3 / 255, 4 / 255
    values = identity_distance(image, reference)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx([0, 5])


def test_a_face_is_looked_at_once_unless_it_changes(network):
    image, reference = torch.zeros(2, 3, 32, 32), torch.full((2, 3, 32, 32), 0.2)
    before = identity_distance(image, reference)
    assert torch.equal(identity_distance(image, reference), before)
    frechet_distance(image, reference)
    assert len(network.calls) == 2
    image[0] += 0.2
    assert identity_distance(image, reference).tolist() == [0, before[1]]
    assert len(network.calls) == 3


def test_tensors_of_inference_mode_are_looked_at_each_time(network):
    with torch.inference_mode():
        image = torch.zeros(1, 3, 32, 32)
        identity_distance(image, image)
        image += 0.2
        assert identity_distance(image, torch.full((1, 3, 32, 32), 0.2)).item() == 0


def test_identity_of_a_real_face():
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    face = read_astronaut(128)
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    faces = torch.cat([face, (face + 0.05 * noise).clamp(0, 1), face.flip(2)])
    same, noisy, upside_down = identity_distance(faces, face.expand(3, -1, -1, -1)).tolist()
    assert same == 0
    assert 0.05 < noisy < 0.5
    assert upside_down > 0.6
    assert face_metrics.load_identity_network() is face_metrics.load_identity_network()


def test_embedding_agrees_with_dlib_own_crop():
    """dlib crops by five landmarks given as integers, so it is shown them on a large face."""
    dlib = pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    points = [(0.6705, 0.4755), (0.5712, 0.4798), (0.3257, 0.4754), (0.4244, 0.4800), (0.4957, 0.6640)]
    face = cv2.resize(cv2.cvtColor(cv2.imread(str(ASTRONAUT)), cv2.COLOR_BGR2RGB), (512, 512))
    landmarks = [dlib.point(round(x * 512 - 0.5), round(y * 512 - 0.5)) for x, y in points]
    detection = dlib.full_object_detection(dlib.rectangle(0, 0, 511, 511), landmarks)
    network = face_metrics.load_identity_network()

    def dlib_embedding(image):
        return np.array(network.compute_face_descriptor(np.ascontiguousarray(image), detection))

    softened = cv2.GaussianBlur(face, (0, 0), 10)
    expected = np.linalg.norm(dlib_embedding(softened) - dlib_embedding(face))
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (softened, face)]
    assert identity_distance(*tensors).item() == pytest.approx(expected, abs=0.03)


# Landmarks


def test_landmark_distance_of_a_shifted_face():
    """By a sixteenth of the width, which is 16 pixels of 256."""
    pytest.importorskip("dlib")
    face = read_astronaut(128)
    shifted = torch.cat([face[..., 8:], face[..., -1:].expand(-1, -1, -1, 8)], dim=-1)
    same, moved = landmark_distance(torch.cat([face, shifted]), face.expand(2, -1, -1, -1)).tolist()
    assert same == 0 and moved == pytest.approx(16, abs=3)


def test_landmarks_are_shares_of_the_side():
    pytest.importorskip("dlib")
    small, large = (face_metrics.locate(read_astronaut(size))[0] for size in (128, 256))
    assert small.shape == (68, 2)
    assert (small - large).norm(dim=1).mean() < 0.01
    left_eye, right_eye = small[36:42].mean(0), small[42:48].mean(0)
    assert left_eye.tolist() == pytest.approx([0.38, 0.47], abs=0.03)
    assert right_eye.tolist() == pytest.approx([0.62, 0.47], abs=0.03)


# Fréchet distance


class Embeddings:
    """Answers the next of the embeddings it was given."""

    def __init__(self, *sets):
        self.sets = iter(sets)

    def compute_face_descriptor(self, chips):
        return next(self.sets)


def frechet_of(monkeypatch, first, second):
    network = Embeddings(first, second)
    monkeypatch.setattr(face_metrics, "load_identity_network", lambda: network)
    return frechet_distance(batch(2, 3, 32, 32), batch(2, 3, 32, 32)).item()


def test_frechet_distance_of_gaussians_along_the_axes(monkeypatch):
    """Means apart by (3, 4); deviations 1 and 2 against 2 and 1: 25 + 1 + 1."""
    corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * math.sqrt(3 / 4)  # of variance 1
    distance = frechet_of(monkeypatch, corners * (1, 2), corners * (2, 1) + (3, 4))
    assert distance == pytest.approx(27)


def test_frechet_distance_agrees_with_scipy(monkeypatch):
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(40, 6)) + 0.5
    covariances = [np.cov(each.T) for each in (first, second)]
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected += np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_of(monkeypatch, first, second) == pytest.approx(expected)


def test_frechet_distance_of_fewer_faces_than_dimensions(monkeypatch):
    embeddings = np.random.default_rng(0).normal(size=(5, 128))
    assert frechet_of(monkeypatch, embeddings, embeddings[::-1]) == pytest.approx(0, abs=1e-6)
    assert frechet_of(monkeypatch, embeddings, embeddings + 0.1) == pytest.approx(1.28, abs=1e-6)


# Errors


@pytest.mark.parametrize("metric", [identity_distance, landmark_distance])
@pytest.mark.parametrize(
    ("image", "reference", "error", "message"),
    [
        (batch(2, 3, 16, 16), batch(1, 3, 16, 16), ValueError, "same shape"),
        (batch(3, 16, 16), batch(3, 16, 16), ValueError, "`image` must have the shape"),
        (batch(1, 3, 16, 16) + 0.5, batch(1, 3, 16, 16), ValueError, "`image` must lie in"),
        (constant(1), constant(1), TypeError, "`image` must be a floating-point tensor"),
        (
            batch(1, 3, 16, 32),
            batch(1, 3, 16, 32),
            ValueError,
            r"`image` must hold .* square faces \[B,3,S,S\], got \[1, 3, 16, 32\]",
        ),
    ],
)
def test_refuses(metric, image, reference, error, message):
    with pytest.raises(error, match=message):
        metric(image, reference)


@pytest.mark.parametrize(
    ("images", "references", "message"),
    [
        (batch(1, 3, 16, 16), batch(2, 3, 16, 16), "`images` must hold at least 2 faces, got 1"),
        (batch(2, 3, 16, 16), batch(1, 3, 16, 16), "`references` must hold at least 2 faces, got 1"),
        (batch(2, 3, 16, 16), batch(2, 3, 16, 32), "`references` must hold .* square faces"),
        (batch(2, 3, 16, 16) - 0.5, batch(2, 3, 16, 16), "`images` must lie in"),
    ],
)
def test_refuses_sets(images, references, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(images, references)


@pytest.mark.parametrize("metric", [identity_distance, landmark_distance])
def test_missing_extra_names_the_install_line(monkeypatch, metric):
    face_metrics.load_identity_network.cache_clear()
    face_metrics.load_landmark_network.cache_clear()
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)
    with pytest.raises(
        ImportError, match=r'needs `face_recognition_models`.*pip install "difface-diffusers\[metrics\]"'
    ):
        metric(batch(1, 3, 16, 16), batch(1, 3, 16, 16))
