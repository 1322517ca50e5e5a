import numpy as np
import pytest
import torch

from difface_diffusers.degradation.blind import DegradationRanges, degrade
from tests.evaluation.test_metrics import read_astronaut


@pytest.fixture(scope="session")
def pairs():
    """20 degraded faces and the clean ones, `[20,3,192,192]` each: one face turned, mirrored and recolored."""
    face = read_astronaut(192)[0].permute(1, 2, 0).numpy()
    references, images = [], []
    for index in range(20):
        rng = np.random.default_rng([20, index])
        turned = np.rot90(face[:, ::-1] if index % 2 else face, index // 2)
        reference = np.ascontiguousarray(turned ** rng.uniform(0.6, 1.6, 3)).astype(np.float32)
        references.append(reference)
        images.append(degrade(reference, DegradationRanges(), rng))
    return tuple(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous() for faces in (images, references))
