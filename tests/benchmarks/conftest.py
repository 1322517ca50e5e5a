"""A tiny pipeline, pictures to restore, and a stand-in for dlib's networks."""

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import face_metrics
from tests.conftest import SIZE, ddim, tiny_estimator, tiny_unet


class FakeNetwork:
    """The mean color of a chip as its embedding: no dlib, and distances that can be recomputed."""

    def compute_face_descriptor(self, chips):
        return [chip.reshape(-1, 3).mean(axis=0) for chip in chips]


def locate(faces):
    """Two points that move with the brightness of the two halves."""
    halves = faces.double().mean(dim=1).unflatten(-1, (2, -1)).mean(dim=(1, 3))
    return halves[:, :, None].expand(-1, 2, 2)


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    network = FakeNetwork()
    monkeypatch.setattr(face_metrics, "load_identity_network", lambda: network)
    monkeypatch.setattr(face_metrics, "locate", locate)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with a tiny pipeline of random weights whose saved defaults are two steps."""
    folder = tmp_path_factory.mktemp("pipeline")
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), 2, 400, 0.5).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """Three pictures of 64 x 64, written in another order than that of their names, and one file that is none."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in (2, 0, 1):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture = np.array(coarse.resize((64, 64), Image.Resampling.BICUBIC))
        picture[:8] = (200, 100, 10 * index)  # a band that names the picture, and its channels
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no face")
    return folder


@pytest.fixture
def clean():
    """Three faces `[3,3,S,S]` in [0,1], each of its own brightness."""
    faces = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    return faces * torch.tensor([0.5, 0.75, 1.0]).view(3, 1, 1, 1)
