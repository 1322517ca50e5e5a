"""diffusers' own loaders, which know nothing of the package but that it was imported."""

import pytest
import torch
from diffusers import AutoModel, AutoPipelineForImage2Image, AutoPipelineForInpainting, DiffusionPipeline

from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    DifFaceInpaintPipeline,
    DifFacePipeline,
    LaMaEstimator,
    SRCNNEstimator,
)

from ..conftest import SIZE


@pytest.fixture
def inpainter(pipe):
    estimator = LaMaEstimator(base_channels=8, num_downsamples=1, num_blocks=1).eval()
    return DifFaceInpaintPipeline(pipe.unet, estimator, pipe.scheduler, default_num_inference_steps=3)


def restored(pipe, faces):
    pipe.set_progress_bar_config(disable=True)
    mask = [torch.ones(1, SIZE, SIZE)] if isinstance(pipe, DifFaceInpaintPipeline) else []
    return pipe(faces, *mask, generator=torch.Generator().manual_seed(0), output_type="pt").images


@pytest.mark.parametrize("loader", [DiffusionPipeline, AutoPipelineForImage2Image])
def test_restoration(pipe, faces, loader, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is DifFacePipeline
    torch.testing.assert_close(restored(loaded, faces), restored(pipe, faces), rtol=0, atol=1e-5)


@pytest.mark.parametrize("loader", [DiffusionPipeline, AutoPipelineForInpainting])
def test_inpainting(inpainter, faces, loader, tmp_path):
    inpainter.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is DifFaceInpaintPipeline
    torch.testing.assert_close(restored(loaded, faces), restored(inpainter, faces), rtol=0, atol=1e-5)


def test_from_one_pipeline_to_another(pipe, inpainter):
    twin = AutoPipelineForImage2Image.from_pipe(pipe)
    assert type(twin) is DifFacePipeline and twin.unet is pipe.unet and twin.estimator is pipe.estimator
    other = AutoPipelineForInpainting.from_pipe(pipe, estimator=inpainter.estimator)
    assert type(other) is DifFaceInpaintPipeline and other.unet is pipe.unet


@pytest.mark.parametrize("loader", [DiffusionPipeline, DifFacePipeline, AutoPipelineForImage2Image])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (torch.float32, torch.float32)),
        ({"dtype": torch.float16}, (torch.float16, torch.float16)),
        ({"dtype": {"unet": torch.bfloat16}}, (torch.bfloat16, torch.float32)),
        ({"dtype": {"unet": torch.bfloat16, "default": torch.float16}}, (torch.bfloat16, torch.float16)),
    ],
)
def test_dtypes(pipe, loader, arguments, expected, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path, **arguments)
    assert (loaded.unet.dtype, loaded.estimator.dtype) == expected


def test_a_component_alone(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    estimator = AutoModel.from_pretrained(str(tmp_path), subfolder="estimator", dtype=torch.float16)
    assert type(estimator) is SRCNNEstimator and estimator.dtype is torch.float16
    assert type(AutoModel.from_pretrained(str(tmp_path), subfolder="unet")) is type(pipe.unet)
    pipe.estimator.save_pretrained(tmp_path / "alone")
    assert type(SRCNNEstimator.from_pretrained(tmp_path / "alone")) is SRCNNEstimator


@pytest.mark.parametrize("loader", [DiffusionPipeline, AutoPipelineForInpainting])
def test_the_bundled_inpainting_model(loader):
    loaded = loader.from_pretrained(BUNDLED_INPAINT_MODEL)
    prior = AutoModel.from_pretrained(BUNDLED_MODEL, subfolder="unet")
    alone = AutoModel.from_pretrained(BUNDLED_INPAINT_MODEL, subfolder="unet")
    for unet in (loaded.unet, alone):
        assert torch.equal(unet.conv_in.weight, prior.conv_in.weight)
    assert type(loaded.estimator) is LaMaEstimator
