import contextlib
import gc
import os
import re
import socket


os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in the processes that tests start

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler, UNet2DModel

from difface_diffusers import DifFacePipeline, SRCNNEstimator
from difface_diffusers.acceleration.processor import keep_compiled_code_apart


keep_compiled_code_apart()

SIZE = 32


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import without the garbage collector: it would find nothing, in a fifth of the time."""
    gc.disable()
    collected = yield
    gc.enable()
    return collected


@pytest.fixture(autouse=True, scope="module")
def no_garbage():
    """Spare the garbage collector what was imported or kept so far: half a second each time that a training calls it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def settings_of_accelerate():
    """Let accelerate look at its settings anew, as it does once in a process: "auto" is another precision here and there."""
    AcceleratorState._reset_state(reset_partial_state=True)


def tiny_unet(out_channels=3, cls=UNet2DModel, **changes):
    torch.manual_seed(1)
    arguments = {
        "sample_size": SIZE,
        "out_channels": out_channels,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return cls(**arguments | changes).eval()


def tiny_estimator():
    torch.manual_seed(2)
    return SRCNNEstimator(down_scale_factor=2, num_channels=8, depth=2).eval()


def ddim(**changes):
    """The scheduler of the original, which clips x0."""
    return DDIMScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="leading", **changes)


def free_port():
    """Not the one that another test process is about to take, as the first free one from 7860 may be."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def warned_at(file, match, category=UserWarning):
    """Expect a warning that points to a line of `file`."""
    with pytest.warns(category, match=match) as caught:
        yield
    assert {warning.filename for warning in caught if re.search(match, str(warning.message))} == {file}


@pytest.fixture
def pipe():
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def faces():
    """Two faces [2,3,S,S] in [0,1], different in every row, column and channel."""
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
