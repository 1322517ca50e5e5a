import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from difface_diffusers.evaluation import distributions, fid, kid, load_feature_network
from tests.evaluation.test_metrics import batch


class Pooling(torch.nn.Module):
    """Mean colors of the quarters of an image, on the levels of 8 bits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), (2, 2)).flatten(1)


class Classifier(torch.nn.Module):
    """Answers features only when asked to, as Inception does."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        colors = images.float().mean(dim=(2, 3))
        return colors if return_features else colors.sum(dim=1, keepdim=True)


class Flat(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean()


def save(module, path):
    torch.jit.script(module).save(str(path))
    return path


def features(count, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(count, 6)) @ np.random.default_rng(9).normal(size=(6, 6)) + shift)


# Numbers


def test_fid_of_gaussians_along_a_line():
    """Means 2 apart, deviations 1 and 3: 4 + 4."""
    signs = torch.tensor([[-1.0], [1.0]]) / 2**0.5  # of unbiased variance 1
    assert fid(signs, 3 * signs + 2).item() == pytest.approx(8)


@pytest.mark.parametrize("counts", [(50, 40), (4, 5)])
def test_fid_agrees_with_scipy(counts):
    first, second = features(counts[0], 0), features(counts[1], 1, 0.5)
    covariances = [np.cov(each.numpy().T) for each in (first, second)]
    expected = (first.mean(0) - second.mean(0)).square().sum().item()
    expected += np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert fid(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_fid_and_kid_agree_with_torchmetrics_on_20_pairs(pairs, tmp_path):
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    network = load_feature_network(save(Pooling(), tmp_path / "pooling.pt"))
    pooling = Pooling()
    pooling.num_features = 12
    oracles = [
        FrechetInceptionDistance(pooling, input_img_size=(3, 192, 192)).set_dtype(torch.float64),
        KernelInceptionDistance(pooling, subsets=2, subset_size=20),
    ]
    for oracle in oracles:
        for faces, real in zip(pairs, (False, True), strict=True):
            oracle.update((faces * 255).round().byte(), real=real)
    seen = [network(faces) for faces in pairs]
    assert fid(*seen).item() == pytest.approx(oracles[0].compute().item(), rel=1e-4)
    assert kid(*seen).item() == pytest.approx(oracles[1].compute()[0].item(), rel=1e-4)


def test_kid_by_hand():
    """D = 1: kernels (xy + 1)^3 of {0, 1} and {2, 3}; 1 within the first, 343 within the second, 1, 1, 27, 64 between."""
    first, second = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    assert kid(first, second).item() == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


def test_kid_of_one_distribution_is_about_0_and_repeats(monkeypatch):
    monkeypatch.setattr(distributions, "KID_SUBSET_SIZE", 500)
    first, second = features(750, 0), features(600, 1)
    value = kid(first, second).item()
    assert value == kid(first, second).item()
    assert abs(value) < 0.02 * kid(first, second + 1).item()


@pytest.mark.parametrize("metric", [fid, kid])
def test_the_order_does_not_count_and_a_shift_does(metric):
    first, second = features(30, 0), features(30, 1)
    value = metric(first, second).item()
    assert metric(first, second.flip(0)).item() == pytest.approx(value)
    assert metric(first, second + 1).item() < metric(first, second + 2).item()
    assert metric(first, second + 2).item() > value


# Networks


def test_a_network_sees_bytes(tmp_path):
    network = load_feature_network(save(Pooling(), tmp_path / "pooling.pt"))
    image = torch.full((2, 3, 8, 8), 0.5)
    image[1, 0, :4, :4] = 1.0
    answer = network(image)
    assert answer.dtype == torch.float64 and answer.shape == (2, 12)
    assert answer[0].tolist() == [128] * 12 and answer[1, 0] == 255


def test_a_network_that_classifies_is_asked_for_features(tmp_path):
    network = load_feature_network(save(Classifier(), tmp_path / "classifier.pt"))
    assert network(batch(2, 3, 8, 8)).shape == (2, 3)


def test_refuses_a_network_without_features(tmp_path):
    network = load_feature_network(save(Flat(), tmp_path / "flat.pt"))
    with pytest.raises(ValueError, match=r"flat.pt answered \[\]; it must be \[B,D\]"):
        network(batch(2, 3, 8, 8))


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_missing_or_unfit_file_tells_where_the_usual_one_is(tmp_path, content):
    if content is not None:
        (tmp_path / "inception.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` is .*inception.pt.*https://.*/inception-2015-12-05.pt"):
        load_feature_network(tmp_path / "inception.pt")


# Errors


@pytest.mark.parametrize("metric", [fid, kid])
def test_refuses_unfit_features(metric):
    with pytest.raises(ValueError, match=r"`features` must be \[N,D\] of 2 images at least, got \[1, 6\]"):
        metric(features(1, 0), features(3, 0))
    with pytest.raises(ValueError, match=r"`references` must be \[N,D\] of 2 images at least, got \[6\]"):
        metric(features(3, 0), features(3, 0)[0])
    with pytest.raises(ValueError, match=r"of one network, got \[3, 6\] and \[3, 5\]"):
        metric(features(3, 0), features(3, 0)[:, :5])
