import diffusers
import pytest

from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.demo.models import load_models, pipe_of_request


def test_the_bundled_models_unless_others_are_named(restorer, tmp_path):
    restorer.save_pretrained(tmp_path)
    bundled, inpainter = load_models(device="cpu")
    named, _ = load_models(str(tmp_path), BUNDLED_INPAINT_MODEL, "cpu")
    assert isinstance(inpainter, DifFaceInpaintPipeline)
    assert bundled.config == DifFacePipeline.from_pretrained(BUNDLED_MODEL).config
    assert named.model_size == (32, 32)


def test_a_model_that_is_not_there():
    with pytest.raises(OSError, match="nowhere"):
        load_models("nowhere")


def test_a_request_shares_the_networks_and_nothing_else(restorer):
    restorer._interrupt = False
    before = dict(restorer.config)
    own = pipe_of_request(restorer, "euler")
    own._interrupt = True
    own.scheduler.set_timesteps(7)
    assert own.unet is restorer.unet and own.estimator is restorer.estimator
    assert isinstance(own.scheduler, diffusers.EulerDiscreteScheduler)
    assert isinstance(restorer.scheduler, diffusers.DDIMScheduler)
    assert not restorer.interrupt and dict(restorer.config) == before
    assert own.config.default_num_inference_steps == 4


def test_the_models_own_scheduler(restorer):
    own = pipe_of_request(restorer, None)
    assert type(own.scheduler) is type(restorer.scheduler) and own.scheduler is not restorer.scheduler
    assert own.scheduler.config == restorer.scheduler.config
