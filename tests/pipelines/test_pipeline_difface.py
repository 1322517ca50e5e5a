import inspect
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    RePaintScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import PipelineCallback
from diffusers.models.unets.unet_2d import UNet2DOutput
from PIL import Image

from conversion import convert_prior
from difface_diffusers import DifFacePipeline, DifFacePipelineOutput
from difface_diffusers.models import DiffusedEstimator
from difface_diffusers.pipelines.pipeline_difface import Sampling

from ..conftest import SIZE, ddim, tiny_estimator, tiny_unet
from ..hub.originals.reference import image, load_golden, load_manifest, noise, weights


SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DEISMultistepScheduler",
    "PNDMScheduler",
]


NOISY = ["DDPMScheduler", "EulerAncestralDiscreteScheduler"]


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class RecordedEstimate(DiffusedEstimator):
    """Answers a recorded estimate, whatever the input."""

    def __init__(self, answer):
        super().__init__()
        self.answer = torch.nn.Parameter(answer, requires_grad=False)

    def forward(self, image):
        return self.answer


class PerfectPrior(UNet2DModel):
    """Knows the clean face [B,3,S,S] in [-1,1] and answers the exact noise of whatever it is shown."""

    clean = None
    alphas_cumprod = ddim().alphas_cumprod

    def forward(self, sample, timestep):
        alpha_cumprod = self.alphas_cumprod[torch.as_tensor(timestep).long()]
        return UNet2DOutput((sample - alpha_cumprod.sqrt() * self.clean) / (1 - alpha_cumprod).sqrt())


def perfect_pipeline(clean, estimate, scheduler):
    unet = PerfectPrior(sample_size=SIZE, block_out_channels=(8,), down_block_types=("DownBlock2D",),
                        up_block_types=("UpBlock2D",), norm_num_groups=4)  # fmt: skip
    unet.clean = clean * 2 - 1
    pipe = DifFacePipeline(unet, RecordedEstimate(estimate), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestParity:
    """The original's recorded chains, through `__call__`."""

    @pytest.fixture
    def run(self, monkeypatch):
        def run(name, scheduler, module, steps, start, eta):
            golden, _ = load_golden(name)
            config, shapes = load_manifest("unet_tiny_varied")
            unet = convert_prior(weights(shapes, gain=0.3), config)
            estimate = image(f"{name}/f", golden["x_N"].shape)
            pipe = DifFacePipeline(unet, RecordedEstimate(estimate), scheduler)
            pipe.set_progress_bar_config(disable=True)
            draws = iter(range(-1, steps))

            def recorded_noise(shape, **_):
                return noise(name, next(draws), tuple(shape))

            states = []

            def record(pipe, step, timestep, tensors):
                states.append(tensors["latents"])

            monkeypatch.setattr("difface_diffusers.models.estimator.randn_tensor", recorded_noise)
            monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", recorded_noise)
            output = pipe(
                image(f"{name}/y0", golden["x_N"].shape),
                num_inference_steps=steps,
                start_timestep=start,
                eta=eta,
                output_type="pt",
                callback_on_step_end=record,
            )
            for step in (1, 2, 3):
                torch.testing.assert_close(states[step - 1], golden[f"after_{step}"], atol=1e-5, rtol=0)
            torch.testing.assert_close(states[-1], golden["final"], atol=1e-4, rtol=0)
            torch.testing.assert_close(output.images, (golden["final"] / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)
            torch.testing.assert_close(output.estimates, estimate)
            assert len(states) == steps

        return run

    @pytest.mark.parametrize("name, eta", [("eta0", 0.0), ("eta05", 0.5), ("eta1", 1.0)])
    def test_ddim(self, run, name, eta):
        run(f"sampler_ddim_{name}", ddim(), "scheduling_ddim", steps=100, start=400, eta=eta)

    def test_ddpm_with_learned_range(self, run):
        scheduler = DDPMScheduler.from_config(ddim().config, variance_type="learned_range")
        run("sampler_ddpm_1000", scheduler, "scheduling_ddpm", steps=40, start=40, eta=0.5)


class TestSchedulers:
    @pytest.mark.parametrize("name", SCHEDULERS)
    @pytest.mark.parametrize("steps, start", [(20, 400), (13, 250)])
    def test_a_perfect_prior_ends_at_the_clean_face(self, faces, name, steps, start):
        """Whatever the estimate: an error in levels, order or warm-up leaves a trace of it."""
        scheduler = getattr(diffusers, name).from_config(ddim(clip_sample=False).config)
        pipe = perfect_pipeline(faces[:1], faces[1:], scheduler)
        output = pipe(faces[:1], num_inference_steps=steps, start_timestep=start, output_type="pt", eta=0.0,
                      generator=generators(0))  # fmt: skip
        # These two end at the noise level of t = 0, not at none.
        atol = 4e-2 if name in ("DEISMultistepScheduler", "PNDMScheduler") else 5e-3
        torch.testing.assert_close(output.images, faces[:1], atol=atol, rtol=0)

    @pytest.mark.parametrize(
        ("name", "changes"),
        [(name, {}) for name in SCHEDULERS if name not in (*NOISY, "DDIMScheduler")]
        + [("PNDMScheduler", {"skip_prk_steps": True})],
    )
    def test_the_chain_stays_on_the_line_from_the_noise_to_the_clean_face(self, faces, name, changes):
        """There the noise that a perfect prior sees never changes; a wrong level, order or warm-up changes it."""
        scheduler = getattr(diffusers, name).from_config(ddim(clip_sample=False).config, **changes)
        pipe = perfect_pipeline(faces[:1], faces[:1], scheduler)
        seen = []
        pipe.unet.register_forward_hook(lambda module, inputs, output: seen.append(output.sample))
        pipe(faces[:1], num_inference_steps=20, generator=generators(0))
        expected = torch.randn(1, 3, SIZE, SIZE, generator=generators(0)[0])
        for noise_seen in seen:
            torch.testing.assert_close(noise_seen, expected, atol=2e-2, rtol=0)

    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_calls_the_network_as_often_as_asked(self, pipe, faces, name):
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        seen = []
        hook = pipe.unet.register_forward_pre_hook(lambda module, inputs: seen.append(float(inputs[1][0])))
        pipe(faces, num_inference_steps=15)
        hook.remove()
        assert len(seen) == pipe.num_timesteps == 15
        assert seen == sorted(seen, reverse=True) or name == "PNDMScheduler"  # PNDM goes back and forth to warm up
        assert 300 < seen[0] <= 400

    def test_the_pipeline_keeps_the_scheduler_it_was_given(self, pipe, faces):
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        given = pipe.scheduler, dict(pipe.scheduler.config)
        pipe(faces)
        assert (pipe.scheduler, dict(pipe.scheduler.config)) == given

    @pytest.mark.parametrize(
        "scheduler, obstacle",
        [(FlowMatchEulerDiscreteScheduler(), "lacks add_noise"), (RePaintScheduler(), "needs original_image")],
    )
    def test_one_that_cannot_start_in_the_middle_is_refused(self, pipe, faces, scheduler, obstacle):
        pipe.scheduler = scheduler
        with pytest.raises(ValueError, match=rf"`scheduler` .* cannot start in the middle .*{obstacle}"):
            pipe(faces)

    def test_one_that_predicts_something_else_is_refused(self, pipe, faces):
        pipe.scheduler = ddim(prediction_type="v_prediction")
        with pytest.raises(ValueError, match="prediction_type"):
            pipe(faces)

    def test_learned_range_needs_six_channels(self, pipe, faces):
        pipe.scheduler = DDPMScheduler(variance_type="learned_range")
        with pytest.raises(ValueError, match="3 output channels; 6 are needed"):
            pipe(faces)

    def test_only_learned_range_gets_six_channels(self, faces):
        pipe = DifFacePipeline(tiny_unet(out_channels=6), tiny_estimator(), ddim())
        channels = []

        def record(scheduler, model_output, *state, **arguments):
            channels.append(model_output.shape[1])
            return step(scheduler, model_output, *state, **arguments)

        for scheduler in (ddim(), DDPMScheduler(variance_type="learned_range"), DDPMScheduler()):
            pipe.scheduler, step = scheduler, type(scheduler).step
            with mock.patch.object(type(scheduler), "step", record):
                pipe(faces, num_inference_steps=1)
        assert channels == [3, 6, 3]

    @pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler])
    def test_runs_twice_with_a_stateful_scheduler(self, pipe, faces, scheduler):
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        results = [pipe(faces, generator=generators(0, 1), output_type="pt").images for _ in range(2)]
        torch.testing.assert_close(*results)


class TestReproducibility:
    def test_the_same_generator_gives_the_same_picture_alone_in_a_batch_and_from_a_list(self, pipe, faces):
        first, second = (
            pipe(faces[index], generator=torch.Generator().manual_seed(index), output_type="pt").images
            for index in (0, 1)
        )
        batch = pipe(faces, generator=generators(0, 1), output_type="pt").images
        listed = pipe([faces[0]], generator=generators(0), output_type="pt").images
        one_for_all = pipe(faces, generator=torch.Generator().manual_seed(0), output_type="pt").images
        torch.testing.assert_close(batch, torch.cat([first, second]), atol=1e-5, rtol=0)
        torch.testing.assert_close(listed, first, atol=1e-5, rtol=0)
        torch.testing.assert_close(one_for_all[:1], first, atol=1e-5, rtol=0)

    def test_another_generator_gives_another_picture(self, pipe, faces):
        one, two = (pipe(faces, generator=generators(*seeds), output_type="pt").images for seeds in [(0, 1), (1, 0)])
        assert (one - two).abs().mean() > 0.01

    def test_samples_of_one_generator_differ_and_begin_alike(self, pipe, faces):
        def sample(count):
            return pipe(faces[0], num_samples=count, generator=generators(0)[0], output_type="pt").images

        two, three = sample(2), sample(3)
        torch.testing.assert_close(two, three[:2], atol=1e-5, rtol=0)
        assert (three[0] - three[1]).abs().mean() > 0.01
        assert (three[1] - three[2]).abs().mean() > 0.01

    def test_the_global_stream_is_used_without_a_generator(self, pipe, faces):
        def draw():
            torch.manual_seed(5)
            return pipe(faces, output_type="pt").images

        torch.testing.assert_close(draw(), draw())

    def test_eta_changes_the_picture_only_through_noise(self, pipe, faces):
        quiet = [pipe(faces, eta=0.0, generator=generators(0, 1), output_type="pt").images for _ in range(2)]
        noisy = pipe(faces, eta=1.0, generator=generators(0, 1), output_type="pt").images
        torch.testing.assert_close(quiet[0], quiet[1])
        assert (noisy - quiet[0]).abs().mean() > 1e-3


class TestImages:
    def test_forms_of_input_are_equal(self, pipe, faces):
        levels = (faces * 255).round().to(torch.uint8)
        array = levels.permute(0, 2, 3, 1).numpy()
        forms = [
            levels,
            levels.float() / 255,
            array,
            array.astype(np.float32) / 255,
            [Image.fromarray(face) for face in array],
            list(array),
            [levels[0], array[1]],
        ]
        expected = pipe(levels, generator=generators(0, 1), output_type="pt").images
        for form in forms:
            result = pipe(form, generator=generators(0, 1), output_type="pt").images
            torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)

    def test_forms_of_output_are_equal(self, pipe, faces):
        tensors, arrays, pictures = (
            pipe(faces, generator=generators(0, 1), output_type=output_type) for output_type in ("pt", "np", "pil")
        )
        for name in ("images", "estimates"):
            tensor, array, pils = (getattr(output, name) for output in (tensors, arrays, pictures))
            assert tensor.shape == (2, 3, SIZE, SIZE) and tensor.dtype == torch.float32
            np.testing.assert_array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
            np.testing.assert_array_equal(np.stack(pils), np.rint(array * 255))

    def test_images_come_back_at_their_own_size(self, pipe):
        inputs = [torch.rand(3, 40, 24), torch.rand(3, 1, 1), torch.rand(3, SIZE, SIZE), torch.rand(3, 100, 7)]
        output = pipe(inputs, num_samples=2, output_type="pt")
        expected = [tuple(entry.shape) for entry in inputs for _ in range(2)]
        assert [tuple(entry.shape) for entry in output.images] == expected
        assert [tuple(entry.shape) for entry in output.estimates] == expected
        assert [picture.size for picture in pipe(inputs).images] == [(24, 40), (1, 1), (SIZE, SIZE), (7, 100)]

    def test_estimates_are_what_the_estimator_answers(self, pipe, faces):
        output = pipe(faces, num_samples=2, output_type="pt")
        expected = pipe.estimator(faces).clamp(0, 1).repeat_interleave(2, dim=0)
        torch.testing.assert_close(output.estimates, expected)

    def test_an_estimator_that_enlarges_is_resized(self, faces):
        estimator = RecordedEstimate(torch.full((2, 3, 2 * SIZE, 2 * SIZE), 0.25))
        pipe = DifFacePipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=2)
        torch.testing.assert_close(pipe(faces, output_type="pt").estimates, torch.full_like(faces, 0.25))

    def test_the_input_is_left_alone(self, pipe, faces):
        before = faces.clone()
        pipe(faces)
        assert torch.equal(faces, before)

    def test_tuple(self, pipe, faces):
        images, estimates = pipe(faces, return_dict=False, generator=generators(0, 1), output_type="pt")
        output = pipe(faces, generator=generators(0, 1), output_type="pt")
        assert isinstance(output, DifFacePipelineOutput)
        assert torch.equal(images, output.images) and torch.equal(estimates, output.estimates)


class TestLatents:
    def test_a_ready_state_replaces_the_estimate(self, pipe, faces):
        latents = torch.randn(2, 3, SIZE, SIZE)
        one = pipe(faces, latents=latents, eta=0.0, output_type="pt").images
        two = pipe(1 - faces, latents=latents, eta=0.0, output_type="pt").images
        torch.testing.assert_close(one, two)

    def test_the_state_stays_float32_whatever_the_networks(self, pipe, faces):
        seen = []
        pipe.to(torch.bfloat16)
        pipe(faces, callback_on_step_end=lambda _, step, t, tensors: seen.append(tensors["latents"].dtype))
        assert set(seen) == {torch.float32}


class TestCallbacks:
    def test_sees_every_step_and_the_preview_closes_in(self, pipe, faces):
        calls = []

        def callback(pipe, step, timestep, tensors):
            calls.append((step, int(timestep), tensors))
            return {}

        output = pipe(
            faces,
            callback_on_step_end=callback,
            callback_on_step_end_tensor_inputs=["latents", "pred_original_sample"],
            output_type="pt",
        )
        assert [(step, timestep) for step, timestep, _ in calls] == [(0, 300), (1, 200), (2, 100), (3, 0)]
        preview = calls[-1][2]["pred_original_sample"]
        torch.testing.assert_close((preview / 2 + 0.5).clamp(0, 1), output.images, atol=1e-5, rtol=0)

    def test_may_change_the_latents(self, pipe, faces):
        output = pipe(
            faces, callback_on_step_end=lambda *_: {"latents": torch.zeros(2, 3, SIZE, SIZE)}, output_type="pt"
        )
        torch.testing.assert_close(output.images, torch.full_like(faces, 0.5))

    def test_interrupts_and_the_next_call_runs_in_full(self, pipe, faces):
        steps = []

        def callback(pipe, step, timestep, tensors):
            steps.append(step)
            pipe._interrupt = step == 1

        assert len(pipe(faces, callback_on_step_end=callback).images) == 2
        assert steps == [0, 1]
        pipe(faces, callback_on_step_end=lambda _, step, *rest: steps.append(step))
        assert steps == [0, 1, 0, 1, 2, 3]

    def test_takes_diffusers_callback_objects(self, pipe, faces):
        class Zero(PipelineCallback):
            tensor_inputs = ["pred_original_sample", "latents"]  # noqa: RUF012

            def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
                assert set(callback_kwargs) == {"pred_original_sample", "latents"}
                return {"latents": callback_kwargs["latents"] * 0}

        output = pipe(faces, callback_on_step_end=Zero(), output_type="pt")
        torch.testing.assert_close(output.images, torch.full_like(faces, 0.5))


class Lopsided(DiffusedEstimator):
    """Answers a gray that grows from left to right, the more so the brighter the face: never the same of the mirror image."""

    def __init__(self):
        super().__init__()
        self.ramp = torch.nn.Parameter(torch.linspace(-1, 1, SIZE), requires_grad=False)

    def forward(self, image):
        return 0.5 + 0.02 * image.mean(dim=(1, 2, 3), keepdim=True) * self.ramp.expand_as(image)


class TestAutoStart:
    @pytest.fixture
    def pipe(self, pipe):
        pipe = DifFacePipeline(**pipe.components | {"estimator": Lopsided()}, default_num_inference_steps=4,
                               default_start_timestep="auto", noise_margin=30.0)  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @pytest.fixture
    def faces(self, faces):
        return torch.cat([faces * 0.2, faces[:1], faces[:1] * 0.2])

    def starts(self, pipe, faces, **arguments):
        return pipe.prepare_estimates(faces, pipe.with_defaults(**arguments))[1]

    def test_noise_is_as_many_times_stronger_than_the_answers_differ(self, pipe, faces):
        starts = self.starts(pipe, faces)
        levels = ((1 - pipe.scheduler.alphas_cumprod) / pipe.scheduler.alphas_cumprod).sqrt()
        for face, start in zip(faces, starts, strict=True):
            differ = 2 * 2 * 0.02 * face.mean() * pipe.estimator.ramp.square().mean().sqrt()
            assert levels[start - 1] < 30 * differ <= levels[start]
        assert starts[0] == starts[3] != starts[2]

    def test_one_that_agrees_with_itself_starts_low_and_one_without_a_clue_at_the_top(self, pipe, faces):
        ramp = pipe.estimator.ramp.clone()
        pipe.estimator.ramp.zero_()
        assert self.starts(pipe, faces) == [4] * 4  # as many as there are steps
        assert self.starts(pipe, faces, num_inference_steps=50) == [50] * 4
        pipe.estimator.ramp.copy_(ramp)
        pipe.register_to_config(noise_margin=1e6)
        assert self.starts(pipe, faces) == [1000] * 4

    def test_the_guess_is_the_mean_of_both_answers(self, pipe, faces):
        estimates, _ = pipe.prepare_estimates(faces, pipe.with_defaults())
        assert not torch.allclose(pipe.estimate(faces), torch.full_like(faces, 0.5))
        torch.testing.assert_close(estimates, torch.full_like(faces, 0.5))
        output = pipe(faces, output_type="pt")
        torch.testing.assert_close(output.estimates, estimates)

    def test_a_number_comes_before_it(self, pipe, faces):
        estimates, starts = pipe.prepare_estimates(faces, pipe.with_defaults(start_timestep=300))
        assert starts == [300] * 4
        torch.testing.assert_close(estimates, pipe.estimate(faces))

    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_each_face_is_as_from_its_own_start(self, pipe, faces, name):
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        starts, calls = self.starts(pipe, faces), 13 if name == "PNDMScheduler" else 5
        settings = {"num_inference_steps": calls, "num_samples": 2, "output_type": "latent"}
        together = pipe(faces, generator=generators(*range(8)), **settings)
        pipe.estimator.ramp.zero_()  # now it answers what was the mean of its answers
        for index, start in enumerate(starts):
            seeds = generators(2 * index, 2 * index + 1)
            alone = pipe(faces[[index]], start_timestep=start, generator=seeds, **settings)
            rows = slice(2 * index, 2 * index + 2)
            torch.testing.assert_close(together.images[rows], alone.images, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(together.estimates[rows], alone.estimates)

    def test_all_faces_share_the_calls_of_the_network(self, pipe, faces):
        calls = []
        pipe.unet.register_forward_pre_hook(lambda _, arguments: calls.append(arguments[1]))
        pipe(faces)
        assert [len(timesteps) for timesteps in calls] == [4] * 4
        assert [timesteps.tolist()[0] > timesteps.tolist()[2] for timesteps in calls[:-1]] == [False] * 3

    def test_a_callback_sees_the_timesteps_of_all_faces(self, pipe, faces):
        seen = []

        def callback(pipe, step, timestep, tensors):
            seen.append((timestep.tolist(), len(tensors["pred_original_sample"])))

        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        inputs = {"callback_on_step_end_tensor_inputs": ["pred_original_sample"]}
        pipe(faces, callback_on_step_end=callback, **inputs)
        assert seen[0] == (self.starts(pipe, faces), 4) and seen[-1] == ([0] * 4, 4)

    def test_is_saved(self, pipe, faces, tmp_path):
        saved = DifFacePipeline(**pipe.components | {"estimator": tiny_estimator()}, default_num_inference_steps=4,
                                default_start_timestep="auto", noise_margin=30.0)  # fmt: skip
        saved.save_pretrained(tmp_path)
        loaded = DifFacePipeline.from_pretrained(tmp_path)
        assert loaded.config.noise_margin == 30.0
        assert self.starts(loaded, faces) == self.starts(saved, faces)

    def test_needs_a_margin_and_no_latents(self, pipe, faces):
        with pytest.raises(ValueError, match="`start_timestep` is 'auto' and `latents` were given"):
            pipe(faces, latents=torch.zeros(4, 3, SIZE, SIZE))
        with pytest.raises(ValueError, match=r"`num_inference_steps` is 1001; .* at most 1000"):
            pipe(faces, num_inference_steps=1001)
        with pytest.raises(
            ValueError, match="`start_timestep` is 'auto', for which this pipeline has no `noise_margin`"
        ):
            DifFacePipeline(**pipe.components)(faces, start_timestep="auto")

    @pytest.mark.parametrize("margin", [0, -17, float("nan")])
    def test_margin_must_be_positive(self, pipe, margin):
        with pytest.raises(ValueError, match=r"`noise_margin` is .*; it must be above 0"):
            DifFacePipeline(**pipe.components, noise_margin=margin)


class TestErrors:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"num_inference_steps": 0}, r"`num_inference_steps` is 0; it must be at least 1 and at most 400"),
            ({"num_inference_steps": 401}, r"`num_inference_steps` is 401; .* at most 400 \(`start_timestep`\)"),
            ({"num_inference_steps": 2.5}, r"`num_inference_steps` is 2.5; it must be an integer"),
            ({"num_inference_steps": True}, r"`num_inference_steps` is True; it must be an integer"),
            ({"start_timestep": 0}, r"`start_timestep` is 0; it must be at least 1 and at most 1000"),
            ({"start_timestep": 1001}, r"`start_timestep` is 1001"),
            ({"start_timestep": "late"}, r"`start_timestep` is 'late'; it must be an integer or 'auto'"),
            ({"eta": -0.1}, r"`eta` is -0.1; it must be a number within 0 .. 1"),
            ({"eta": 1.1}, r"`eta` is 1.1"),
            ({"eta": float("nan")}, r"`eta` is nan"),
            ({"eta": "half"}, r"`eta` is 'half'"),
            ({"s_noise": 0.0}, r"`s_noise` is 0.0; it must be a number above 0 and at most 2"),
            ({"s_noise": 2.1}, r"`s_noise` is 2.1"),
            ({"s_noise": True}, r"`s_noise` is True"),
            ({"num_samples": 0}, r"`num_samples` is 0; it must be at least 1"),
            ({"generator": generators(0)}, r"`generator` is a list of 1; .* one entry per output image, 2"),
            ({"generator": generators(0, 1), "num_samples": 2}, r"`generator` is a list of 2; .* output image, 4"),
            ({"output_type": "jpeg"}, r"`output_type` is 'jpeg'; it must be one of pil, np, pt, latent"),
            ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"has \['noise'\]; known are"),
            ({"latents": torch.zeros(1, 3, SIZE, SIZE)}, r"`latents` is torch.float32 \[1, 3, 32, 32\]; .* \[2, 3"),
            ({"latents": torch.full((2, 3, SIZE, SIZE), torch.nan)}, r"`latents` has NaN"),
            ({"latents": torch.zeros(2, 3, SIZE, SIZE), "generator": generators(0, 1)}, r"both given"),
        ],
    )
    def test_values(self, pipe, faces, arguments, message):
        with pytest.raises(ValueError, match=message):
            pipe(faces, **arguments)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"generator": 5}, "`generator` is 5"),
            ({"generator": [None, None]}, "`generator` is"),
            ({"latents": np.zeros((2, 3, SIZE, SIZE))}, "`latents` is a ndarray"),
        ],
    )
    def test_types(self, pipe, faces, arguments, message):
        with pytest.raises(TypeError, match=message):
            pipe(faces, **arguments)

    def test_a_schedule_that_does_not_exist(self, pipe, faces):
        pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
        with pytest.raises(ValueError, match=r"`start_timestep` is 999, where .* nothing but noise"):
            pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, rescale_betas_zero_snr=True)
            pipe(faces, start_timestep=999)


class TestDefaults:
    def test_none_means_what_the_config_says(self, faces):
        pipe = DifFacePipeline(
            tiny_unet(), tiny_estimator(), ddim(),
            default_num_inference_steps=4, default_start_timestep=200, default_eta=0.0,
            default_s_noise=1.1,
        )  # fmt: skip
        by_default = pipe(faces, generator=generators(0, 1), output_type="pt").images
        spelled_out = pipe(faces, num_inference_steps=4, start_timestep=200, eta=0.0, s_noise=1.1,
                           generator=generators(0, 1), output_type="pt").images  # fmt: skip
        assert pipe.num_timesteps == 4
        torch.testing.assert_close(by_default, spelled_out)

    def test_of_a_new_pipeline_are_the_original(self):
        config = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim()).config
        defaults = {name: value for name, value in config.items() if name.startswith("default_")}
        assert list(defaults.values()) == [100, 400, 0.5, 1.0]

    def test_the_signature_is_the_contract(self):
        parameters = list(inspect.signature(DifFacePipeline.__call__).parameters)[1:]
        assert parameters == [
            "image", "num_inference_steps", "start_timestep", "eta", "num_samples", "generator", "latents",
            "output_type", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs",
            "s_noise", "preset", "scheduler",
        ]  # fmt: skip


class TestPresets:
    @pytest.fixture
    def pipe(self, pipe):
        presets = {"fast": {"num_inference_steps": 2, "start_timestep": 200}, "plain": {}}
        pipe = DifFacePipeline(**pipe.components, default_num_inference_steps=4, presets=presets)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @pytest.mark.parametrize(
        "preset, given, expected",
        [
            (None, {}, (4, 400, 0.5, 1.0)),
            ("plain", {}, (4, 400, 0.5, 1.0)),
            ("fast", {}, (2, 200, 0.5, 1.0)),
            ("fast", {"num_inference_steps": 3, "eta": 0.0}, (3, 200, 0.0, 1.0)),
        ],
    )
    def test_what_is_given_comes_before_the_preset_and_that_before_the_defaults(self, pipe, preset, given, expected):
        assert pipe.with_defaults(preset, **given) == Sampling(*expected)

    def test_a_call_runs_it(self, pipe, faces):
        fast = pipe(faces, preset="fast", generator=generators(0, 1), output_type="pt").images
        assert pipe.num_timesteps == 2
        arguments = {"num_inference_steps": 2, "start_timestep": 200}
        spelled_out = pipe(faces, **arguments, generator=generators(0, 1), output_type="pt").images
        torch.testing.assert_close(fast, spelled_out)

    def test_may_name_a_scheduler_for_its_call_alone(self, pipe, faces):
        presets = {"fast": {"scheduler": "dpm-multistep", "num_inference_steps": 3}, "plain": {}}
        pipe = DifFacePipeline(**pipe.components, default_num_inference_steps=3, presets=presets)

        def restore(**arguments):
            return pipe(faces, generator=generators(0, 1), output_type="pt", **arguments).images

        plain, fast, overridden = restore(), restore(preset="fast"), restore(preset="fast", scheduler="heun")
        assert isinstance(pipe.scheduler, DDIMScheduler)
        torch.testing.assert_close(restore(preset="plain"), plain, rtol=0, atol=0)
        torch.testing.assert_close(restore(scheduler="dpm-multistep"), fast, rtol=0, atol=0)
        for kind, expected in ((DPMSolverMultistepScheduler, fast), (HeunDiscreteScheduler, overridden)):
            pipe.scheduler = kind.from_config(ddim().config)
            torch.testing.assert_close(restore(), expected, rtol=0, atol=0)
        torch.testing.assert_close(restore(scheduler="ddim"), plain, rtol=0, atol=0)

    def test_previews_are_those_of_its_scheduler(self, pipe, faces):
        clean = []

        def callback(pipe, step, timestep, tensors):
            clean.append(tensors["pred_original_sample"])
            return {}

        wanted = ["pred_original_sample"]
        answer = pipe(
            faces, scheduler="euler", output_type="latent", generator=generators(0, 1),
            callback_on_step_end=callback, callback_on_step_end_tensor_inputs=wanted,
        )  # fmt: skip
        torch.testing.assert_close(clean[-1], answer.images.clamp(-1, 1), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("scheduler", ["DDIMScheduler", "dpm", 3, ["ddim"]])
    def test_an_unknown_scheduler_is_refused(self, pipe, faces, scheduler):
        with pytest.raises(ValueError, match=r"`scheduler` is .*; it must be one of ddim, ddpm, dpm-multistep,"):
            pipe(faces, scheduler=scheduler)
        with pytest.raises(ValueError, match=r"`presets\['fast'\].scheduler` is .*; it must be one of ddim,"):
            DifFacePipeline(**pipe.components, presets={"fast": {"scheduler": scheduler}})

    def test_a_scheduler_that_cannot_run_so_few_steps_says_so(self, faces):
        pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
        with pytest.raises(ValueError, match="`num_inference_steps` is 5; PNDM's Runge-Kutta"):
            pipe(faces, scheduler="pndm", num_inference_steps=5)

    def test_are_saved_with_the_pipeline(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        loaded = DifFacePipeline.from_pretrained(tmp_path)
        assert loaded.with_defaults("fast") == pipe.with_defaults("fast")
        assert list(loaded.config.presets) == ["fast", "plain"]

    def test_an_unknown_one_is_refused(self, pipe, faces):
        with pytest.raises(ValueError, match="`preset` is 'slow'; it must be one of fast, plain"):
            pipe(faces, preset="slow")
        with pytest.raises(ValueError, match="`preset` is 'fast'; this pipeline has none"):
            DifFacePipeline(**pipe.components)(faces, preset="fast")

    def test_with_a_setting_that_does_not_exist_is_refused(self, pipe):
        with pytest.raises(
            ValueError, match=r"`presets` has \['steps'\] in 'fast'; settings are num_inference_steps,"
        ):
            DifFacePipeline(**pipe.components, presets={"fast": {"steps": 2}})

    @pytest.mark.parametrize("preset", [3, ["fast"], True])
    def test_of_a_wrong_type_is_refused(self, pipe, faces, preset):
        with pytest.raises(ValueError, match="`preset` is "):
            pipe(faces, preset=preset)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"eta": 7}, "eta` is 7; it must be a number within 0 .. 1"),
            ({"eta": "1"}, "eta` is '1'"),
            ({"s_noise": 0}, "s_noise` is 0; it must be a number above 0"),
            ({"num_inference_steps": 0}, "num_inference_steps` is 0"),
            ({"num_inference_steps": 2.5}, "num_inference_steps` is 2.5; it must be an integer"),
            ({"start_timestep": "late"}, "start_timestep` is 'late'"),
            ({"start_timestep": -1}, "start_timestep` is -1"),
        ],
    )
    def test_out_of_range_are_refused_at_construction(self, pipe, settings, message):
        with pytest.raises(ValueError, match=f"`default_{message}"):
            DifFacePipeline(**pipe.components, **{f"default_{name}": value for name, value in settings.items()})
        with pytest.raises(ValueError, match=rf"`presets\['fast'\].{message}"):
            DifFacePipeline(**pipe.components, presets={"fast": settings})

    def test_numpy_numbers_are_numbers(self, pipe, faces):
        numbers = {"eta": np.float32(0.5), "s_noise": np.float64(1.1), "num_inference_steps": np.int64(2)}
        images = [
            pipe(faces, generator=torch.Generator().manual_seed(0), output_type="pt", **arguments).images
            for arguments in (numbers, {name: value.item() for name, value in numbers.items()})
        ]
        assert torch.equal(*images)

    def test_numpy_numbers_can_be_saved(self, pipe, tmp_path):
        numbers = {"default_eta": np.float32(0.5), "presets": {"fast": {"num_inference_steps": np.int64(2)}}}
        DifFacePipeline(**pipe.components, **numbers).save_pretrained(tmp_path)
        loaded = DifFacePipeline.from_pretrained(tmp_path)
        assert loaded.config.default_eta == 0.5 and loaded.config.presets["fast"] == {"num_inference_steps": 2}
