import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from difface_diffusers.evaluation import load_lpips
from difface_diffusers.evaluation.lpips import AlexNetFeatures
from tests.evaluation.test_metrics import batch


pytest.importorskip("torchmetrics")


@pytest.fixture
def alexnet():
    torch.manual_seed(0)
    return AlexNetFeatures()


@pytest.fixture
def path(alexnet, tmp_path):
    """A file like torchvision's, with a classifier that is not wanted."""
    path = tmp_path / "alexnet.pth"
    torch.save(alexnet.state_dict() | {"classifier.1.weight": torch.zeros(2, 2)}, path)
    return path


def test_the_network_has_the_shapes_of_the_published_weights(alexnet):
    shapes = {name: tuple(weight.shape) for name, weight in alexnet.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "features.0.weight": (64, 3, 11, 11),
        "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3),
        "features.8.weight": (256, 384, 3, 3),
        "features.10.weight": (256, 256, 3, 3),
    }
    assert [layer.shape[1:] for layer in alexnet(torch.zeros(1, 3, 224, 224))] == [
        (64, 55, 55), (192, 27, 27), (384, 13, 13), (256, 13, 13), (256, 13, 13)
    ]  # fmt: skip


def test_agrees_with_torchmetrics_on_20_pairs(pairs, path, alexnet, monkeypatch):
    """torchmetrics takes its AlexNet from torchvision; here it gets one with the same weights."""
    from torchmetrics.functional.image import lpips as oracle

    models = SimpleNamespace(alexnet=lambda **_: alexnet)
    torchvision = ModuleType("torchvision")
    torchvision.models = models
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setattr(oracle, "_get_tv_model_features", lambda *_, **__: alexnet.features, raising=False)
    network = oracle._LPIPS(pretrained=True, net="alex", pnet_rand=True)
    expected = network(*pairs, normalize=True).flatten().tolist()
    values = load_lpips(path)(*pairs)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(expected, rel=1e-3)


def test_equal_is_0_and_another_or_a_shifted_reference_is_further(path, pairs):
    lpips = load_lpips(path)
    images, references = (faces[:6] for faces in pairs)
    assert lpips(images, images).tolist() == [0] * 6
    assert (lpips(images, references.roll(1, dims=0)).mean() > lpips(images, references).mean()).item()
    shifts = [lpips(references, references.roll(shift, dims=-1)).mean() for shift in (1, 2, 4)]
    assert 0 < shifts[0] < shifts[1] < shifts[2]


@pytest.mark.parametrize("content", [None, b"no weights", {"features.0.weight": torch.zeros(3)}])
def test_a_missing_or_unfit_file_tells_where_the_right_one_is(tmp_path, content):
    if isinstance(content, bytes):
        (tmp_path / "alexnet.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "alexnet.pth")
    with pytest.raises(ValueError, match=r"`path` is .*alexnet.pth.*https://.*/alexnet-owt-7be5be79.pth"):
        load_lpips(tmp_path / "alexnet.pth")


def test_refuses_images_that_are_too_small(path):
    lpips = load_lpips(path)
    with pytest.raises(ValueError, match=r"at least 31 pixels a side, got \[1, 3, 30, 64\]"):
        lpips(batch(1, 3, 30, 64), batch(1, 3, 30, 64))
    assert lpips(batch(1, 3, 31, 31), batch(1, 3, 31, 31, seed=1)).item() > 0
