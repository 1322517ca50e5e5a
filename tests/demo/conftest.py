import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline, LaMaEstimator
from difface_diffusers.demo import build_demo, launch, restore_tab
from tests.conftest import ddim, free_port, tiny_estimator, tiny_unet


PHOTOGRAPH = restore_tab.EXAMPLES / "photograph.png"  # 320 x 320 pixels, one face


@pytest.fixture(scope="package")
def restorer():
    return DifFacePipeline(
        tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=4, default_start_timestep=200
    )


@pytest.fixture(scope="package")
def inpainter():
    torch.manual_seed(4)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    return DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=4)


@pytest.fixture(scope="package")
def cache(tmp_path_factory):
    """Where Gradio keeps its files."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="package")
def demo(restorer, inpainter, cache):
    return build_demo(restorer, inpainter)


@pytest.fixture(scope="package")
def address(demo):
    """Where the demo is served."""
    yield launch(demo, port=free_port(), block=False)
    demo.close()


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "note.png"
    path.write_text("no picture")
    return path


@pytest.fixture
def large_picture(tmp_path):
    """A picture of 36 megapixels in a small file."""
    path = tmp_path / "large.png"
    Image.new("1", (6000, 6000)).save(path)
    return path


@pytest.fixture
def wait_until():
    """Waits until a condition holds, for at most 20 seconds."""

    def wait_until(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait_until


def pixels(path):
    return np.asarray(Image.open(Path(path)).convert("RGB"))
