import pytest
import torch

from difface_diffusers import DifFacePipeline
from tests.conftest import ddim, tiny_estimator, tiny_unet


@pytest.fixture(scope="package")
def pipe():
    torch.manual_seed(0)
    pipe = DifFacePipeline(
        tiny_unet(),
        tiny_estimator(),
        ddim(),
        default_num_inference_steps=2,
        default_start_timestep=200,
        noise_margin=2.0,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
