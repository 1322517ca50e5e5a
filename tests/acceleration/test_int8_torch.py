from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from difface_diffusers.acceleration import int8_torch, runtimes
from difface_diffusers.acceleration.int8_layers import Inputs, Int8Conv2d, counts_exactly, largest_weight
from difface_diffusers.acceleration.int8_torch import require_torch
from difface_diffusers.acceleration.processor import ProcessorError
from tests import forks


WITH_ANOTHER = """
import sys
import torch

for name in [name for name in sys.modules if name.partition(".")[0] == "difface_diffusers"]:
    del sys.modules[name]
torch.__version__ = "2.99.0"
sys.modules["torch.ao.quantization.fx._decomposed"] = None  # it may well be gone there
from difface_diffusers.acceleration import int8, int8_swinir, runtimes

try:
    int8.largest_weight()
except ImportError as error:
    print(error)
"""


@pytest.fixture
def install(monkeypatch):
    """Let a release of torch be installed that the layers were, or were not, tried with."""
    monkeypatch.setattr(int8_torch, "OLDEST", (2, 9))
    monkeypatch.setattr(int8_torch, "NEWEST", (2, 13))
    return lambda version: monkeypatch.setattr(torch, "__version__", version)


@pytest.mark.parametrize("version", ["2.9.0", "2.10.0", "2.13.0", "2.13.0+cpu", "2.13.2+cu130", "2.13.0a0+git1a2b3c"])
def test_releases_in_the_range_are_accepted(install, version):
    install(version)
    require_torch()


@pytest.mark.parametrize(
    "version",
    ["2.8.1", "2.14.0", "2.14.0+cpu", "2.14.0.dev20260101", "2.14.0a0+git1a2b3c", "2.100.0", "1.13.1", "3.0.0"],
)
def test_all_others_are_refused(install, version):
    install(version)
    with pytest.raises(ImportError) as caught:
        require_torch()
    assert str(caught.value) == (
        "counting in 8 bits by torch is experimental and made for torch 2.9 to 2.13, whose private operators it calls;"
        f" installed is torch {version}"
    )


def test_a_single_release_is_named_once(install, monkeypatch):
    install("2.14.0")
    monkeypatch.setattr(int8_torch, "OLDEST", (2, 13))
    with pytest.raises(ImportError, match=r"made for torch 2\.13, whose"):
        require_torch()


@pytest.mark.parametrize(
    "door",
    [
        largest_weight,
        lambda: counts_exactly.__wrapped__(63),
        lambda: Int8Conv2d(nn.Conv2d(16, 16, 1), Inputs(torch.Size([1, 16, 2, 2])), 63),
    ],
)
def test_every_door_refuses(install, door):
    install("2.14.0")
    with pytest.raises(ImportError, match=r"installed is torch 2\.14\.0"):
        door()


def test_with_another_torch_the_modules_are_imported_all_the_same(tmp_path):
    log = tmp_path / "log.txt"
    assert forks.run(WITH_ANOTHER, log=log) == 0, log.read_text()
    assert "installed is torch 2.99.0" in log.read_text()


@pytest.mark.parametrize(("largest", "refused"), [(127, True), (64, False)])
def test_openvino_takes_only_weights_that_are_right_everywhere(install, monkeypatch, largest, refused):
    monkeypatch.setattr(runtimes, "counts_exactly", counts_exactly.__wrapped__)
    install("2.14.0")
    weights = SimpleNamespace(get_type_name=lambda: "Constant", data=np.array([-largest, 3], np.int8))
    model = SimpleNamespace(get_ordered_ops=lambda: [weights])
    if refused:
        with pytest.raises(
            ProcessorError, match=r"may answer wrong here.+installed is torch 2\.14\.0\. Export the model again"
        ):
            runtimes._check_weights(model, Path("model.onnx"))
    else:
        runtimes._check_weights(model, Path("model.onnx"))
