import inspect
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from conversion import convert_prior
from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
)
from difface_diffusers.models import DiffusedEstimator, bundled
from difface_diffusers.pipelines.pipeline_difface_inpaint import pull_to_known

from ..conftest import SIZE, ddim, tiny_estimator, tiny_unet
from ..hub.originals.reference import image, load_golden, load_manifest, noise, weights
from .test_pipeline_difface import SCHEDULERS, generators


@pytest.fixture
def estimator():
    torch.manual_seed(4)
    return LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()


@pytest.fixture
def pipe(estimator):
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def mask():
    """Missing is a block off the middle, `[SIZE,SIZE]`."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:20, 10:30] = 255
    return mask


def hole(mask):
    return torch.from_numpy(mask / 255).float()


class RecordedEstimate(DiffusedEstimator):
    def __init__(self, answer):
        super().__init__()
        self.answer = torch.nn.Parameter(answer, requires_grad=False)
        self.seen = []

    def forward(self, image, mask):
        self.seen.append((image, mask))
        return self.answer


class TestParity:
    @pytest.fixture
    def recorded(self, monkeypatch):
        """The pipeline, the input, the mask and the recording of the original's chain."""
        name = "sampler_ddim_inpaint"
        golden, _ = load_golden(name)
        config, shapes = load_manifest("unet_tiny_varied")
        unet = convert_prior(weights(shapes, gain=0.3), config)
        shape = golden["x_N"].shape
        pipe = DifFaceInpaintPipeline(unet, RecordedEstimate(image(f"{name}/f", shape)), ddim())
        pipe.set_progress_bar_config(disable=True)
        draws = iter(range(-1, 120))

        def recorded_noise(shape, **_):
            return noise(name, next(draws), tuple(shape))

        monkeypatch.setattr("difface_diffusers.models.estimator.randn_tensor", recorded_noise)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddim.randn_tensor", recorded_noise)
        return pipe, image(f"{name}/y0", shape) * (1 - golden["mask"]), golden

    def test_the_chain_is_the_originals(self, recorded):
        pipe, picture, golden = recorded
        states = []
        output = pipe(
            picture,
            golden["mask"],
            output_type="latent",
            callback_on_step_end=lambda pipe, step, timestep, tensors: states.append(tensors["latents"]),
        )
        assert len(states) == 120
        for step in (1, 2, 3):
            torch.testing.assert_close(states[step - 1], golden[f"after_{step}"], rtol=0, atol=1e-5)
        torch.testing.assert_close(output.images, golden["final"], rtol=0, atol=1e-3)
        seen_image, seen_mask = pipe.estimator.seen[0]
        torch.testing.assert_close(seen_image, picture)
        torch.testing.assert_close(seen_mask, golden["mask"])

    def test_the_default_settings_are_the_originals(self):
        pipe = DifFaceInpaintPipeline(tiny_unet(), tiny_estimator(), ddim())
        config = pipe.config
        assert (config.default_num_inference_steps, config.default_start_timestep) == (120, 480)
        assert config.default_eta == 1.0
        assert inspect.signature(DifFaceInpaintPipeline.__call__).parameters["gamma"].default == 0.5


class TestKnownPixels:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_equal_the_input_with_any_scheduler(self, pipe, faces, mask, scheduler):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        result = pipe(faces, mask, num_inference_steps=13, generator=generators(0, 1), output_type="pt").images
        known = hole(mask) == 0
        assert torch.equal(result[..., known], faces[..., known])
        assert result.isfinite().all() and (result[..., ~known] != faces[..., ~known]).any()

    @pytest.mark.parametrize("size", [(32, 32), (31, 45), (200, 120), (7, 9)])
    def test_equal_the_input_at_any_size_in_8_bits(self, pipe, size):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = rng.random(size) < 0.3
        result = np.asarray(pipe(Image.fromarray(pixels), mask, generator=generators(0)).images[0])
        np.testing.assert_array_equal(result[~mask], pixels[~mask])
        assert (result[mask] != pixels[mask]).any()

    def test_estimates_keep_them_too(self, pipe, faces, mask):
        output = pipe(faces, mask, output_type="pt")
        known = hole(mask) == 0
        assert torch.equal(output.estimates[..., known], faces[..., known])

    def test_what_lies_in_the_holes_does_not_matter(self, pipe, mask):
        pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
        mask = np.asarray(Image.fromarray(mask).resize((50, 70)))
        results = []
        for color in (0, 255):
            damaged = np.where(mask[..., None] > 127, color, pixels).astype(np.uint8)
            results.append(np.asarray(pipe(damaged, mask, generator=generators(0), output_type="np").images))
        np.testing.assert_allclose(*results, atol=1e-6)

    def test_guide_the_chain_all_the_way_at_a_half(self, pipe, faces, mask):
        known = hole(mask) == 0
        out = pipe(faces, mask, generator=generators(0, 1), output_type="latent").images
        torch.testing.assert_close(out[..., known], faces[..., known] * 2 - 1, rtol=0, atol=1e-5)
        free = pipe(faces, mask, gamma=0.0, generator=generators(0, 1), output_type="latent").images
        assert (free[..., known] - (faces[..., known] * 2 - 1)).abs().mean() > 0.1
        assert not torch.equal(out[..., ~known], free[..., ~known])

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_guide_every_scheduler_near(self, pipe, faces, mask, scheduler):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        face = faces[:1]
        known, target = hole(mask) == 0, face * 2 - 1
        errors = []
        for gamma in (0.0, 0.5):
            arguments = {"gamma": gamma, "num_inference_steps": 20, "generator": generators(0)}
            out = pipe(face, mask, output_type="latent", **arguments).images
            errors.append((out - target)[..., known].square().mean().sqrt().item())
        assert errors[1] < 0.1 < errors[0]

    def test_a_soft_mask_blends(self, pipe, faces):
        soft = torch.linspace(0, 1, SIZE).expand(1, SIZE, SIZE)
        arguments = {"generator": generators(0), "output_type": "pt"}
        blended = pipe(faces[:1], soft, mask_threshold=None, **arguments).images[0]
        everything = (
            pipe(
                faces[:1],
                soft,
                mask_threshold=None,
                generator=generators(0),
                output_type="latent",
            ).images[0]
            / 2
            + 0.5
        ).clamp(0, 1)
        torch.testing.assert_close(blended, faces[0] + soft * (everything - faces[0]), rtol=0, atol=1e-5)
        assert torch.equal(blended[..., 0], faces[0][..., 0])

    def test_empty_and_full_masks(self, pipe, faces):
        assert torch.equal(pipe(faces, np.zeros((SIZE, SIZE)), output_type="pt").images, faces)
        full = pipe(faces, np.ones((SIZE, SIZE)), generator=generators(0, 1), output_type="pt").images
        assert full.isfinite().all() and not torch.equal(full, faces)

    def test_an_inverted_mask(self, pipe, faces, mask):
        arguments = {"generator": generators(0, 1), "output_type": "pt"}
        expected = pipe(faces, mask, **arguments).images
        result = pipe(faces, 255 - mask, invert_mask=True, **(arguments | {"generator": generators(0, 1)})).images
        assert torch.equal(result, expected)


class TestCall:
    def test_without_a_mask_black_is_missing(self, pipe, faces, mask):
        black = faces * (1 - hole(mask))
        explicit, derived = (
            pipe(black, given, generator=generators(0, 1), output_type="pt").images for given in (mask, None)
        )
        assert torch.equal(explicit, derived) and not torch.equal(explicit, black)

    def test_alone_and_in_a_batch(self, pipe, faces, mask):
        other = np.zeros_like(mask)
        other[:, :8] = 255
        both = pipe(faces, [mask, other], generator=generators(0, 1), output_type="pt").images
        for index, each in enumerate((mask, other)):
            alone = pipe(faces[index], each, generator=generators(index), output_type="pt").images
            torch.testing.assert_close(alone[0], both[index], rtol=0, atol=1e-5)

    def test_several_samples_differ_in_the_hole(self, pipe, faces, mask):
        images = pipe(faces, mask, num_samples=2, output_type="pt").images
        assert images.shape == (4, 3, SIZE, SIZE)
        missing = hole(mask) > 0
        assert not torch.equal(images[0][:, missing], images[1][:, missing])
        assert torch.equal(images[0][:, ~missing], faces[0][:, ~missing])

    def test_the_preview_is_guided(self, pipe, faces, mask):
        known = hole(mask) == 0
        previews = []
        pipe(
            faces,
            mask,
            callback_on_step_end=lambda pipe, step, timestep, tensors: previews.append(
                tensors["pred_original_sample"]
            ),
            callback_on_step_end_tensor_inputs=["pred_original_sample"],
        )
        for preview in previews:
            torch.testing.assert_close(preview[..., known], (faces * 2 - 1)[..., known], rtol=0, atol=1e-5)

    def test_saves_and_loads(self, pipe, faces, mask, tmp_path):
        pipe = DifFaceInpaintPipeline(**pipe.components, presets={"fast": {"num_inference_steps": 4}})
        pipe.set_progress_bar_config(disable=True)
        pipe.save_pretrained(tmp_path)
        loaded = DifFaceInpaintPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded.estimator) is LaMaEstimator
        expected, result = (
            each(faces, mask, preset="fast", generator=generators(0, 1), output_type="pt").images
            for each in (pipe, loaded)
        )
        assert loaded.num_timesteps == 4
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)

    def test_shares_the_prior_of_a_restoration_pipeline(self, estimator, faces, mask):
        restoration = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
        pipe = DifFaceInpaintPipeline.from_pipe(restoration, estimator=estimator, default_num_inference_steps=3)
        pipe.set_progress_bar_config(disable=True)
        assert pipe.unet is restoration.unet
        assert pipe.config.default_num_inference_steps == 3
        assert pipe(faces, mask, output_type="pt").images.shape == faces.shape

    def test_the_prior_may_work_on_patches(self, pipe, faces, mask):
        pipe.register_modules(unet=tiny_unet(cls=DifFaceUNet2DModel, patch_size=2))
        answer = pipe(faces, mask, generator=generators(0, 1), output_type="pt").images
        alone = pipe(faces[1:], mask, generator=generators(1), output_type="pt").images
        torch.testing.assert_close(answer[1:], alone, rtol=0, atol=1e-4)
        known = hole(mask) == 0
        assert torch.equal(answer[..., known], faces[..., known])
        assert (answer - faces)[..., ~known].abs().mean() > 0.1

    def test_the_bundled_one_gets_the_bundled_prior_whatever_its_class(self, tmp_path, monkeypatch):
        unet = tiny_unet(cls=DifFaceUNet2DModel, patch_size=2)
        DifFacePipeline(unet, tiny_estimator(), ddim()).save_pretrained(tmp_path)
        monkeypatch.setattr(bundled, "BUNDLED_MODEL", str(tmp_path))
        loaded = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL).unet
        assert type(loaded) is DifFaceUNet2DModel and loaded.config.patch_size == 2
        assert torch.equal(loaded.conv_in.weight, unet.conv_in.weight)
        half = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, dtype=torch.float16)
        assert half.unet.dtype is torch.float16

    def test_the_bundled_model_has_its_prior_wherever_it_lies(self, tmp_path, monkeypatch):
        monkeypatch.chdir(Path(BUNDLED_INPAINT_MODEL).parent)
        (tmp_path / "link").symlink_to(BUNDLED_INPAINT_MODEL)
        shutil.copytree(BUNDLED_INPAINT_MODEL, tmp_path / "copy")
        for path in (
            "mini_inpaint",
            "./mini_inpaint/",
            Path("mini_inpaint"),
            f"{BUNDLED_INPAINT_MODEL}/",
            tmp_path / "link",
            tmp_path / "copy",
        ):
            assert DifFaceInpaintPipeline.from_pretrained(path).unet is not None

    def test_each_part_has_a_dtype_of_its_own(self):
        dtypes = {"unet": torch.float16, "estimator": torch.float32}
        loaded = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, dtype=dtypes)
        assert (loaded.unet.dtype, loaded.estimator.dtype) == (torch.float16, torch.float32)
        loaded = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, dtype={"default": torch.bfloat16})
        assert loaded.unet.dtype is loaded.estimator.dtype is torch.bfloat16

    def test_the_bundled_prior_may_be_placed_by_a_device_map(self):
        placed = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, device_map="balanced").unet
        prior = DifFaceUNet2DModel.from_pretrained(BUNDLED_MODEL, subfolder="unet")
        assert torch.equal(placed.conv_in.weight, prior.conv_in.weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, pipe, faces, mask, dtype):
        assert pipe.to(dtype)(faces, mask, output_type="pt").images.isfinite().all()

    @pytest.mark.parametrize("gamma", [-0.1, 0.6, "half", True])
    def test_refuses_a_gamma(self, pipe, faces, mask, gamma):
        with pytest.raises(ValueError, match=r"`gamma` is .*; it must be a number within 0 \.\. 0\.5"):
            pipe(faces, mask, gamma=gamma)

    def test_refuses_an_estimator_of_the_other_kind(self, pipe, faces, mask):
        restorer = DifFaceInpaintPipeline(pipe.unet, tiny_estimator(), ddim())
        with pytest.raises(ValueError, match=r"`estimator` is a SRCNNEstimator, which takes no mask; .* fills holes"):
            restorer(faces, mask)
        with pytest.raises(ValueError, match=r"`estimator` is a LaMaEstimator, which takes a mask; .* restores"):
            DifFacePipeline(pipe.unet, pipe.estimator, ddim())(faces)

    def test_checks_the_other_arguments(self, pipe, faces, mask):
        with pytest.raises(ValueError, match="`num_samples` is 0"):
            pipe(faces, mask, num_samples=0)
        with pytest.raises(ValueError, match="`mask_image` holds 3 masks"):
            pipe(faces, [mask] * 3)


def test_pulling_is_one_gradient_step():
    generator = torch.Generator().manual_seed(0)
    clean, known = torch.randn(2, 2, 3, 4, 4, generator=generator)
    mask = (torch.rand(2, 1, 4, 4, generator=generator) > 0.5).float()
    for gamma in (0.1, 0.25, 0.5):
        variable = clean.clone().requires_grad_()
        ((variable - known).square() * (1 - mask)).sum().backward()
        expected = clean - gamma * variable.grad
        torch.testing.assert_close(pull_to_known(clean, known, mask, gamma), expected)
