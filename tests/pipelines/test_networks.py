"""Networks that cannot work together are refused by name, and answers of any size are fitted to the prior."""

import pytest
import torch
import torch.nn.functional as F

from difface_diffusers import (
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SRCNNEstimator,
    SwinIREstimator,
)
from difface_diffusers.models import DiffusedEstimator

from ..conftest import SIZE, ddim, tiny_unet


class Restorer(DiffusedEstimator):
    """Answers what a function makes of the picture."""

    def __init__(self, answer):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answer = answer

    def forward(self, image):
        return self.answer(image)


class Inpainter(Restorer):
    def forward(self, image, mask):
        return self.answer(image)


def swinir(**changes):
    arguments = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4, "num_feat": 8}
    return SwinIREstimator(**arguments | changes).eval()


def srcnn(**changes):
    return SRCNNEstimator(**{"num_channels": 16, "depth": 2} | changes).eval()


@pytest.fixture(params=[DifFacePipeline, DifFaceInpaintPipeline])
def inpaint_or_restore(request, faces):
    """A function that runs either pipeline on two faces with networks swapped in after construction."""
    mask = torch.zeros(SIZE, SIZE)
    mask[4:20, 10:30] = 1
    inpaints = request.param is DifFaceInpaintPipeline

    def run(unet=None, answer=lambda image: image):
        pipe = request.param(tiny_unet(), (Inpainter if inpaints else Restorer)(answer), ddim())
        pipe.set_progress_bar_config(disable=True)
        pipe.unet = unet or pipe.unet
        masks = {"mask_image": mask} if inpaints else {}
        return pipe(faces, **masks, num_inference_steps=2, output_type="pt"), pipe

    return run


def restore(faces, estimator):
    pipe = DifFacePipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe(faces, output_type="pt").estimates


# The prior


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 1}, "`in_channels` 1; accepted is 3"),
        ({"in_channels": 4}, "`in_channels` 4; accepted is 3"),
        *[({"out_channels": count}, f"`out_channels` {count}; accepted is 3 or 6") for count in (1, 2, 4, 5, 12)],
        ({"num_class_embeds": 4}, "`num_class_embeds` 4; accepted is None"),
        ({"class_embed_type": "timestep"}, "`class_embed_type` 'timestep'; accepted is None"),
        ({"sample_size": None}, "`sample_size` None; .* in multiples of 2"),
        *[
            ({"sample_size": size}, "the `sample_size`")
            for size in (0, -2, 33, (32, 33), (32,), (32, 32, 32), "32", 32.0)
        ],
    ],
    ids=str,
)
def test_a_prior_that_cannot_work_is_refused(inpaint_or_restore, changes, message):
    with pytest.raises(ValueError, match=f"`unet` has .*{message}"):
        inpaint_or_restore(tiny_unet(**changes))


def test_a_prior_on_patches_needs_multiples_of_them(inpaint_or_restore):
    unet = tiny_unet(cls=DifFaceUNet2DModel, patch_size=2)
    unet.register_to_config(sample_size=34)
    with pytest.raises(ValueError, match=r"`unet` has the `sample_size` 34; .* in multiples of 4"):
        inpaint_or_restore(unet)


@pytest.mark.parametrize("size", [None, 33])
def test_the_size_of_an_unfit_prior(pipe, size):
    pipe.unet = tiny_unet(sample_size=size)
    with pytest.raises(
        ValueError, match=rf"`unet` has the `sample_size` {size}; .* `unet.register_to_config\(sample_size"
    ):
        _ = pipe.model_size
    pipe.unet.register_to_config(sample_size=SIZE)
    assert pipe.model_size == (SIZE, SIZE)


@pytest.mark.parametrize("size", [[32, 48], (48, 32)])
def test_a_prior_of_faces_that_are_not_square(inpaint_or_restore, faces, size):
    output, pipe = inpaint_or_restore(tiny_unet(sample_size=size))
    assert pipe.model_size == tuple(size)
    assert output.images.shape == faces.shape and output.images.isfinite().all()


# The estimator


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (swinir(in_channels=1), "`in_channels` 1"),
        (srcnn(in_channels=4), "`in_channels` 4"),
        (srcnn(out_channels=1), "`out_channels` 1"),
        (srcnn(out_channels=6), "`out_channels` 6"),
    ],
)
def test_an_estimator_of_other_channels_is_refused(faces, estimator, message):
    with pytest.raises(ValueError, match=f"`estimator` has {message}; accepted is 3"):
        restore(faces, estimator)


@pytest.mark.parametrize(
    "answer",
    [
        lambda image: image[:, :1],
        lambda image: image.repeat(1, 2, 1, 1),
        lambda image: image[:1],
        lambda image: image[0],
    ],
)
def test_an_answer_of_another_shape_is_refused(inpaint_or_restore, answer):
    with pytest.raises(ValueError, match=r"`estimator` answers with the shape \[.*\]; accepted is \[2,3,H,W\]"):
        inpaint_or_restore(answer=answer)


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (64, 20), (1, 1)])
def test_an_answer_of_another_size_is_fitted(inpaint_or_restore, size):
    ramp = torch.linspace(0.2, 0.8, 256)[:, None].expand(2, 3, 256, 256)

    def answer(image):
        return F.interpolate(ramp, size, mode="area")

    (output, _), (expected, _) = (
        inpaint_or_restore(answer=answer),
        inpaint_or_restore(answer=lambda image: F.interpolate(answer(image), (SIZE, SIZE), mode="bilinear")),
    )
    assert (output.estimates - expected.estimates).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("estimator", "size"),
    [
        *[(swinir(scale=scale), SIZE) for scale in (1, 2, 8)],
        *[(srcnn(sf=factor), factor * SIZE) for factor in (1, 2, 4)],
        (srcnn(down_scale_factor=4), SIZE),
    ],
)
def test_estimators_of_every_scale(faces, estimator, size):
    answer = estimator(faces)
    assert answer.shape == (2, 3, size, size)
    expected = F.interpolate(answer, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(restore(faces, estimator), expected, rtol=0, atol=1e-5)


def test_lama_fills_faces_that_are_not_square(faces):
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(sample_size=(32, 48)), estimator, ddim(), default_num_inference_steps=2)
    pipe.set_progress_bar_config(disable=True)
    mask = torch.zeros(SIZE, SIZE)
    mask[4:20, 10:30] = 1
    images = pipe(faces, mask, output_type="pt").images
    assert torch.equal(images[..., mask == 0], faces[..., mask == 0])
