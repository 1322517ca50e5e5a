import pytest
import torch

from difface_diffusers.hub.originals.official import TASKS, ddim_scheduler
from difface_diffusers.pipelines.schedule import plan
from tests.hub.originals.reference import load_manifest


RECORDED = [
    ("restoration", "prior", "unet_full512"),
    ("restoration", "estimator", "swinir_full"),
    ("inpainting", "prior", "unet_full256"),
    ("inpainting", "estimator", "lama_full"),
]


@pytest.mark.parametrize(("task", "part", "manifest"), RECORDED)
def test_architectures_are_those_of_the_original(task, part, manifest):
    checkpoint = getattr(TASKS[task], part)
    config, shapes = load_manifest(manifest)
    state_dict = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    model, recorded = (checkpoint.convert(state_dict, each) for each in (checkpoint.config, config))
    assert type(model) is type(recorded)
    assert model.config == recorded.config


def test_files_are_those_of_the_release():
    assert {name: (task.prior.file, task.estimator.file) for name, task in TASKS.items()} == {
        "restoration": ("iddpm_ffhq512_ema500000.pth", "swinir_restoration512_L1.pth"),
        "inpainting": ("iddpm_ffhq256_ema750000.pth", "lama_inpainting256.pth"),
    }


def test_restoration_runs_as_the_original():
    defaults = TASKS["restoration"].defaults
    steps, start = defaults["default_num_inference_steps"], defaults["default_start_timestep"]
    scheduler = ddim_scheduler()
    schedule = plan(scheduler, steps, start)
    assert schedule.timesteps.tolist() == list(range(396, -1, -4))
    assert schedule.noise_timestep == 400
    assert defaults["default_eta"] == 0.5
    assert scheduler.final_alpha_cumprod == 1 and scheduler.config.clip_sample
    torch.testing.assert_close(scheduler.betas[[0, -1]], torch.tensor([1e-4, 0.02]))
    inpainting = TASKS["inpainting"].defaults
    steps, start = inpainting["default_num_inference_steps"], inpainting["default_start_timestep"]
    assert plan(scheduler, steps, start).timesteps.tolist() == list(range(476, -1, -4))
    assert inpainting["default_eta"] == 1.0
    assert scheduler.alphas_cumprod[400].item() == pytest.approx(0.19357201, rel=1e-5)
