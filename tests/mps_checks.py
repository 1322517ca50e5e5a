"""Whatever runs on a device does without float64, as Apple's GPUs do, and answers what the CPU does; see `test_mps.py`."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline, LaMaEstimator, SwinIREstimator
from difface_diffusers.acceleration.processor import fastest_dtype
from difface_diffusers.evaluation import coarse_psnr, gradient_ratio, ms_ssim, psnr, psnr_y, spectrum_distance, ssim
from difface_diffusers.evaluation.distributions import fid, kid
from difface_diffusers.photos.real_esrgan import RealESRGANUpscaler
from difface_diffusers.training.losses import prior_loss
from difface_diffusers.utils import devices
from difface_diffusers.utils.choices import SCHEDULERS

from .conftest import SIZE, ddim, tiny_estimator, tiny_unet
from .mps_device import NAME, stand_in
from .photos.test_real_esrgan import compact, noise
from .training.tiny import SWINIR, face


STEPS = {"pndm": 13}  # that it needs at least


@pytest.fixture
def image():
    return Image.fromarray(face(0, SIZE, SIZE))


def restore_there(pipe, image, **options):
    """Return what a pipeline makes of an image on the CPU and on the device."""
    pipe.set_progress_bar_config(disable=True)

    def restore():
        return pipe(image, generator=torch.Generator().manual_seed(0), output_type="pt", **options).images

    here = restore()
    with stand_in() as device:
        pipe.to(device)
        there = restore()
        assert there.device == device
        return here, there.cpu()


def test_the_stand_in_has_no_double():
    with stand_in() as device, pytest.raises(TypeError, match="float64"):
        torch.ones(2, dtype=torch.float64, device=device)
    with stand_in() as device, pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=device).double()
    with stand_in() as device, pytest.raises(RuntimeError, match="of the device and of the CPU"):
        torch.ones(2, device=device) + torch.ones(2)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_restores_with_every_scheduler(image, scheduler):
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
    options = {"scheduler": scheduler, "num_inference_steps": STEPS.get(scheduler, 4)}
    here, there = restore_there(pipe, image, start_timestep=400, **options)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


def test_restores_from_a_start_of_each_face(image):
    pipe = DifFacePipeline(tiny_unet(6), SwinIREstimator(**SWINIR).eval(), ddim(), noise_margin=18)
    faces = [image, image.transpose(Image.Transpose.ROTATE_90)]
    here, there = restore_there(pipe, faces, start_timestep="auto", num_inference_steps=3, eta=0.5)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


def test_fills_holes(image):
    torch.manual_seed(0)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim())
    hole = np.zeros((SIZE, SIZE), np.uint8)
    hole[8:20, 10:16] = 255
    here, there = restore_there(pipe, image, mask_image=Image.fromarray(hole), num_inference_steps=4)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


def test_enlarges():
    photo = noise(19, 26)
    here = RealESRGANUpscaler(compact(), dtype=torch.float32)(photo, (38, 52))
    with stand_in() as device:
        there = RealESRGANUpscaler(compact(), device=device, dtype=torch.float32)(photo, (38, 52))
    assert np.abs(there.astype(int) - here).max() <= 1


def test_nothing_is_in_half_precision_unless_asked_for():
    assert fastest_dtype("mps") == torch.float32


def test_losses_of_a_training():
    torch.manual_seed(0)
    scheduler, timesteps = DDPMScheduler(beta_start=1e-4, beta_end=0.02), torch.tensor([0, 300])
    clean, epsilon, output = (torch.randn(2, channels, 8, 8) for channels in (3, 3, 6))
    noisy = scheduler.add_noise(clean, epsilon, timesteps)

    def loss(*tensors):
        clean, epsilon, noisy, output, timesteps, pixel_size = tensors
        options = {"pixel_size": pixel_size, "min_snr_gamma": 5.0}
        return prior_loss(output, clean, epsilon, noisy, timesteps, scheduler, **options)

    tensors = clean, epsilon, noisy, output, timesteps, torch.tensor([1, 2])
    with stand_in() as device:
        there = loss(*(tensor.to(device) for tensor in tensors)).item()
    assert there == pytest.approx(loss(*tensors).item(), rel=1e-5)


@pytest.mark.parametrize("metric", [psnr, psnr_y, coarse_psnr, ssim, ms_ssim, gradient_ratio, spectrum_distance])
def test_metrics_are_in_double_all_the_same(metric, monkeypatch):
    monkeypatch.setattr(devices, "WITHOUT_DOUBLE", (*devices.WITHOUT_DOUBLE, NAME))
    images, references = torch.rand(2, 2, 3, 176, 176)
    with stand_in() as device:
        there = metric(images.to(device), references.to(device))
    assert there.dtype == torch.float64
    torch.testing.assert_close(there, metric(images, references), rtol=1e-12, atol=0)


@pytest.mark.parametrize("distance", [fid, kid])
def test_distances_of_sets_are_in_double_all_the_same(distance, monkeypatch):
    monkeypatch.setattr(devices, "WITHOUT_DOUBLE", (*devices.WITHOUT_DOUBLE, NAME))
    features, references = torch.randn(2, 8, 4)
    with stand_in() as device:
        there = distance(features.to(device), references.to(device))
    torch.testing.assert_close(there, distance(features, references), rtol=1e-12, atol=0)
