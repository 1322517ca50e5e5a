import inspect
import logging

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, ModularPipeline
from diffusers.modular_pipelines import ModularPipelineBlocks, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from PIL import Image

from difface_diffusers import DifFaceBlocks, DifFaceInpaintPipeline, DifFacePipeline, LaMaEstimator, SRCNNEstimator
from difface_diffusers.pipelines.modular import (
    DifFaceDecodeStep,
    DifFaceDenoiseStep,
    DifFaceEstimateStep,
    DifFaceModularPipeline,
    DifFaceNoiseStep,
)
from difface_diffusers.pipelines.modular_state import CONFIGS

from ..conftest import SIZE, ddim, tiny_estimator, tiny_unet


PRESETS = {"fast": {"num_inference_steps": 3, "start_timestep": 300, "scheduler": "dpm-multistep"}}
STEPS = {
    "estimate": DifFaceEstimateStep,
    "noise": DifFaceNoiseStep,
    "denoise": DifFaceDenoiseStep,
    "decode": DifFaceDecodeStep,
}


@pytest.fixture
def pipe(pipe):
    pipe = DifFacePipeline(**pipe.components, default_num_inference_steps=4, presets=PRESETS, noise_margin=1.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(autouse=True)
def quiet():
    """diffusers logs each error twice before it raises it."""
    logger = logging.getLogger("diffusers.modular_pipelines.modular_pipeline")
    logger.disabled = True
    yield
    logger.disabled = False


def modular(pipe, blocks=None):
    """Let blocks use what a pipeline has."""
    blocks = blocks or DifFaceBlocks()
    made = blocks.init_pipeline()
    configs = {spec.name: pipe.config.get(spec.name) for spec in blocks.expected_configs}
    made.update_components(**{name: pipe.components[name] for name in made.component_names}, **configs)
    made.set_progress_bar_config(disable=True)
    return made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestAsThePipeline:
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"num_inference_steps": 3, "start_timestep": 250, "eta": 1.0, "s_noise": 1.2},
            {"start_timestep": "auto"},
            {"start_timestep": "auto", "num_samples": 2, "eta": 1},
            {"num_samples": 3},
            {"preset": "fast"},
            {"preset": "fast", "scheduler": "ddpm", "num_inference_steps": 2},
            {"output_type": "np"},
            {"output_type": "latent", "num_samples": 2},
        ],
        ids=lambda arguments: "-".join(arguments),
    )
    def test_the_same_restoration(self, pipe, faces, arguments):
        arguments = {"output_type": "pt", **arguments}
        expected = pipe(faces, generator=generator(), **arguments)
        answer = modular(pipe)(image=faces, generator=generator(), **arguments, output=["images", "estimates"])
        for name, value in answer.items():
            assert type(value) is type(expected[name]) and value.shape == expected[name].shape
            torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(expected[name]), atol=1e-6, rtol=0)

    def test_pictures_of_several_sizes_and_a_generator_for_each(self, pipe, faces):
        pictures = [Image.effect_noise((40, 24), 90).convert("RGB"), (faces[0] * 255).to(torch.uint8)]
        generators = [generator(seed) for seed in range(4)]
        expected = pipe(pictures, num_samples=2, generator=[generator(seed) for seed in range(4)]).images
        images = modular(pipe)(image=pictures, num_samples=2, generator=generators, output="images")
        assert [image.size for image in images] == [(40, 24)] * 2 + [(SIZE, SIZE)] * 2
        assert [image.tobytes() for image in images] == [image.tobytes() for image in expected]

    def test_a_learned_variance(self, pipe, faces):
        scheduler = DDPMScheduler.from_config(pipe.scheduler.config, variance_type="learned_range")
        pipe = DifFacePipeline(tiny_unet(out_channels=6), tiny_estimator(), scheduler, 3)
        pipe.set_progress_bar_config(disable=True)
        expected = pipe(faces, generator=generator(), output_type="pt").images
        images = modular(pipe)(image=faces, generator=generator(), output_type="pt", output="images")
        torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)

    def test_without_a_generator_the_noise_is_torchs_own(self, pipe, faces):
        torch.manual_seed(5)
        expected = pipe(faces, output_type="pt").images
        torch.manual_seed(5)
        images = modular(pipe)(image=faces, output_type="pt", output="images")
        torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)

    def test_they_take_the_same_arguments(self):
        call = set(inspect.signature(DifFacePipeline.__call__).parameters) - {"self"}
        absent = {"latents", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs"}
        assert set(DifFaceBlocks().input_names) == call - absent
        assert DifFaceBlocks().output_names == ["images", "estimates"]

    def test_they_have_the_same_defaults(self):
        parameters = inspect.signature(DifFacePipeline.__init__).parameters
        assert {name: default for name, (default, _) in CONFIGS.items()} == {
            name: parameters[name].default if name != "presets" else {} for name in CONFIGS
        }

    @pytest.mark.parametrize(
        "arguments",
        [
            {"image": "face.png"},
            {"image": torch.full((3, 8, 8), 2.0)},
            {"num_inference_steps": 0},
            {"num_inference_steps": 500, "start_timestep": 400},
            {"start_timestep": 1001},
            {"start_timestep": "soon"},
            {"eta": 1.5},
            {"s_noise": 0},
            {"num_samples": 0},
            {"preset": "slow"},
            {"scheduler": "best"},
            {"output_type": "jpg"},
            {"generator": 3},
            {"generator": [generator()]},
        ],
        ids=lambda arguments: "-".join(arguments),
    )
    def test_they_refuse_the_same(self, pipe, faces, arguments):
        arguments = {"image": faces, **arguments}
        with pytest.raises((TypeError, ValueError)) as expected:
            pipe(**arguments)
        with pytest.raises(expected.type) as raised:
            modular(pipe)(**arguments)
        assert str(raised.value) == str(expected.value)

    def test_what_cannot_work_together_is_refused_as_well(self, pipe, faces):
        lama = LaMaEstimator(base_channels=8, num_downsamples=1, num_blocks=1)
        learned = DDPMScheduler.from_config(pipe.scheduler.config, variance_type="learned_range")
        flow = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, prediction_type="flow_prediction")
        for name, part in (("estimator", lama), ("scheduler", learned), ("scheduler", flow)):
            whole = DifFacePipeline(**pipe.components | {name: part})
            with pytest.raises(ValueError) as expected:
                whole(faces)
            with pytest.raises(ValueError) as raised:
                modular(whole)(image=faces)
            assert str(raised.value) == str(expected.value)

    def test_a_wrong_output_type_is_refused_before_the_chain(self, pipe, faces):
        made = modular(pipe)
        made.unet.forward = None
        with pytest.raises(ValueError, match="`output_type` is 'jpg'"):
            made(image=faces, output_type="jpg")


class TestAlone:
    def test_one_after_the_other(self, pipe, faces):
        state, arguments = None, {"image": faces, "generator": generator(), "eta": 1.0, "num_samples": 2}
        for step in STEPS.values():
            blocks = step()
            own = {name: arguments.pop(name) for name in list(arguments) if name in blocks.input_names}
            state = modular(pipe, blocks)(state, **own)
        expected = pipe(faces, generator=generator(), eta=1.0, num_samples=2).images
        assert [image.tobytes() for image in state.get("images")] == [image.tobytes() for image in expected]

    def test_each_wants_the_components_that_it_uses(self):
        assert {name: sorted(step().component_names) for name, step in STEPS.items()} == {
            "estimate": ["estimator", "scheduler", "unet"],
            "noise": ["scheduler"],
            "denoise": ["scheduler", "unet"],
            "decode": [],
        }
        assert all(step().description and step().doc for step in STEPS.values())

    def test_estimate(self, pipe, faces):
        state = modular(pipe, DifFaceEstimateStep())(image=[faces[0], torch.rand(3, 20, 24)])
        torch.testing.assert_close(state.get("estimate")[:1], pipe.estimate(faces[:1]))
        assert state.get("sizes") == [(SIZE, SIZE), (20, 24)] and state.get("starts") is None
        state = modular(pipe, DifFaceEstimateStep())(image=faces, start_timestep="auto")
        sampling = pipe.with_defaults(start_timestep="auto")
        estimates, starts = pipe.prepare_estimates(faces, sampling)
        torch.testing.assert_close(state.get("estimate"), estimates)
        assert state.get("starts") == starts

    def test_noise(self, pipe, faces):
        made = modular(pipe, DifFaceNoiseStep())
        latents = made(estimate=faces, generator=generator(), output="latents")
        alphas, noise = pipe.scheduler.alphas_cumprod[400], torch.randn(1, 3, SIZE, SIZE, generator=generator())
        expected = alphas.sqrt() * (faces[:1] * 2 - 1) + (1 - alphas).sqrt() * noise
        torch.testing.assert_close(latents[:1], expected)
        state = made(estimate=faces, starts=[300, 20], start_timestep="auto", num_samples=2, generator=generator())
        alone = made(estimate=faces[:1], start_timestep=300, generator=generator(), output="latents")
        assert state.get("latents").shape == (4, 3, SIZE, SIZE) and len(state.get("generator")) == 4
        torch.testing.assert_close(state.get("latents")[:1], alone)

    def test_denoise(self, pipe, faces):
        noised = pipe(faces, output_type="latent", latents=faces * 3 - 1, eta=0).images
        latents = modular(pipe, DifFaceDenoiseStep())(latents=faces * 3 - 1, eta=0, output="latents")
        torch.testing.assert_close(latents, noised, atol=1e-6, rtol=0)

    def test_decode(self, pipe, faces):
        made = modular(pipe, DifFaceDecodeStep())
        state = made(latents=faces * 2 - 1, output_type="pt")
        torch.testing.assert_close(state.get("images"), faces)
        assert state.get("estimates") is None
        state = made(latents=faces * 4 - 2, estimate=faces[:1], sizes=[(20, 24)], num_samples=2)
        assert [image.size for image in (*state.get("images"), *state.get("estimates"))] == [(24, 20)] * 4

    @pytest.mark.parametrize(
        "name, arguments, message",
        [
            ("estimate", {}, "Required input 'image' is missing"),
            ("noise", {"estimate": "x"}, "`estimate` is a str; it must be a tensor"),
            ("noise", {"estimate": torch.zeros(3, 8, 8)}, r"`estimate` is torch.float32 \[3, 8, 8\]; it must be float \[N,3"),
            ("noise", {"start_timestep": "auto"}, "`start_timestep` is 'auto', and `starts`, .* is missing; give a number"),
            ("noise", {"start_timestep": "auto", "starts": [3]}, "`starts` is of 1 faces; it must be of the 2"),
            ("noise", {"start_timestep": "auto", "starts": [30, 3]}, "`starts` is 3; it must be at least 4 and at most 1000"),
            ("denoise", {"latents": torch.zeros(2, 3, 8, 8)}, r"`latents` is .*\[2, 3, 8, 8\]; it must be .*\[2, 3, 32, 32\]"),
            ("denoise", {"latents": torch.full((2, 3, SIZE, SIZE), torch.nan)}, "`latents` has NaN"),
            ("denoise", {"num_samples": 4}, r"`latents` has 2 rows; it must have 4 \(`num_samples`\) for each face"),
            ("denoise", {"generator": [generator()]}, "`generator` is a list of 1; .* per output image, 2"),
            ("decode", {"sizes": [(9, 9)]}, "`sizes` is of 1 faces; it must be of the 2"),
            ("decode", {"estimate": torch.zeros(1, 3, 8, 8)}, "`estimate` is of 1 faces; it must be of the 2"),
            ("decode", {"output_type": "jpg"}, "`output_type` is 'jpg'; it must be one of pil"),
        ],
    )  # fmt: skip
    def test_what_each_refuses(self, pipe, name, arguments, message):
        given = (
            {} if name == "estimate" else {"estimate" if name == "noise" else "latents": torch.zeros(2, 3, SIZE, SIZE)}
        )
        with pytest.raises((TypeError, ValueError), match=message):
            modular(pipe, STEPS[name]())(**given | arguments)

    def test_a_component_that_was_not_loaded(self, pipe, faces):
        with pytest.raises(
            ValueError, match=r"`unet` is missing; call `load_components\(\)`, or `update_components\(unet="
        ):
            DifFaceBlocks().init_pipeline()(image=faces)


class Mirror(ModularPipelineBlocks):
    """A block of somebody else's."""

    @property
    def inputs(self):
        return [InputParam("estimate", required=True)]

    @property
    def intermediate_outputs(self):
        return [OutputParam("estimate")]

    def __call__(self, components, state):
        state.set("estimate", state.get("estimate").flip(-1))
        return components, state


class Watch(ModularPipelineBlocks):
    """A block of the loop."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, components, block_state, i, t):
        clean = block_state.chains.predict_clean(block_state.noise_prediction, i, block_state.scaled_latents)
        self.seen.append((i, int(t), block_state.latents, clean))
        return components, block_state


class TestComposition:
    def test_a_block_between(self, pipe, faces):
        blocks = DifFaceBlocks()
        blocks.sub_blocks.insert("mirror", Mirror(), 1)
        latents = modular(pipe, blocks)(image=faces, generator=generator(), output_type="latent", output="images")
        noise = modular(pipe, DifFaceNoiseStep())
        state = noise(estimate=pipe.estimate(faces).detach().flip(-1), generator=generator())
        expected = modular(pipe, DifFaceDenoiseStep())(state, output="latents")
        torch.testing.assert_close(latents, expected)

    def test_a_given_estimate_instead_of_an_estimator(self, pipe, faces):
        blocks = DifFaceBlocks()
        blocks.sub_blocks["estimate"] = Mirror()
        made = modular(pipe, blocks)
        assert "estimator" not in made.component_names and "image" not in made.blocks.input_names
        answer = made(estimate=pipe.estimate(faces).flip(-1), generator=generator(), output_type="pt", output="images")
        torch.testing.assert_close(answer, pipe(faces, generator=generator(), output_type="pt").images)

    def test_a_ready_state_instead_of_an_estimate(self, pipe, faces):
        blocks = DifFaceBlocks()
        del blocks.sub_blocks["estimate"], blocks.sub_blocks["noise"]
        answer = modular(pipe, blocks)(latents=faces * 3 - 1, eta=0, output_type="pt", output="images")
        torch.testing.assert_close(answer, pipe(faces, latents=faces * 3 - 1, eta=0, output_type="pt").images)

    def test_a_block_of_the_loop_sees_what_a_callback_sees(self, pipe, faces):
        expected = []

        def callback(pipe, step, timestep, tensors):
            expected.append((step, int(timestep), tensors["latents"], tensors["pred_original_sample"]))

        tensors = ["latents", "pred_original_sample"]
        pipe(faces, generator=generator(), callback_on_step_end=callback, callback_on_step_end_tensor_inputs=tensors)
        blocks, watch = DifFaceBlocks(), Watch()
        blocks.sub_blocks["denoise"].sub_blocks["watch"] = watch
        made = modular(pipe, blocks)
        made._blocks.sub_blocks["denoise"].sub_blocks["watch"] = watch  # the pipeline has copies of its blocks
        made(image=faces, generator=generator())
        assert len(watch.seen) == 4
        torch.testing.assert_close(watch.seen, expected)

    def test_in_blocks_of_somebody_else(self, pipe, faces):
        blocks = SequentialPipelineBlocks.from_blocks_dict(
            {"first": DifFaceBlocks().sub_blocks["estimate"], "then": Mirror}
        )
        answer = modular(pipe, blocks)(image=faces, output="estimate")
        torch.testing.assert_close(answer, pipe.estimate(faces).flip(-1))

    def test_a_state_can_be_used_again(self, pipe, faces):
        made = modular(pipe)
        state = made(image=faces, generator=generator(), preset="fast", num_samples=2)
        again = made(state, preset=None, generator=generator(), num_samples=1, output_type="pt", output="images")
        torch.testing.assert_close(again, pipe(faces, generator=generator(), output_type="pt").images)

    def test_nothing_is_left_in_what_was_given(self, pipe, faces):
        made, given = modular(pipe), faces.clone()
        states = [made(image=faces, generator=generator(), output="images") for _ in range(2)]
        assert states[0][1].tobytes() == states[1][1].tobytes() and torch.equal(faces, given)


class TestLoading:
    @pytest.fixture
    def folder(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path / "plain")
        return tmp_path / "plain"

    @pytest.mark.parametrize(
        "load", [ModularPipeline.from_pretrained, lambda folder: DifFaceBlocks().init_pipeline(folder)]
    )
    def test_the_folder_of_a_pipeline(self, pipe, faces, folder, load):
        made = load(folder)
        assert type(made) is DifFaceModularPipeline and type(made.blocks) is DifFaceBlocks
        assert made.config.presets == PRESETS and made.config.default_num_inference_steps == 4
        made.load_components()
        assert type(made.estimator) is SRCNNEstimator
        made.set_progress_bar_config(disable=True)
        images = made(image=faces, generator=generator(), preset="fast", output_type="pt", output="images")
        expected = pipe(faces, generator=generator(), preset="fast", output_type="pt").images
        torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)

    def test_half_precision(self, pipe, faces, folder):
        made = ModularPipeline.from_pretrained(folder)
        made.load_components(dtype=torch.float16)
        made.set_progress_bar_config(disable=True)
        assert made.unet.dtype is made.estimator.dtype is torch.float16
        images = made(image=faces, generator=generator(), output_type="pt", output="images")
        expected = pipe(faces, generator=generator(), output_type="pt").images
        assert images.dtype is torch.float32
        torch.testing.assert_close(images, expected, atol=2e-2, rtol=0)

    def test_one_block_loads_what_it_needs(self, folder, faces):
        made = DifFaceNoiseStep().init_pipeline(folder)
        made.load_components()
        assert list(made.components) == ["scheduler"] and made.config.default_num_inference_steps == 4
        assert made(estimate=faces, output="latents").shape == faces.shape

    def test_what_a_modular_pipeline_saves_it_loads(self, pipe, faces, folder, tmp_path):
        made = ModularPipeline.from_pretrained(folder)
        made.load_components()
        made.save_pretrained(str(tmp_path / "saved"), overwrite_modular_index=True)
        again = ModularPipeline.from_pretrained(tmp_path / "saved")
        again.load_components()
        again.set_progress_bar_config(disable=True)
        images = again(image=faces, generator=generator(), output_type="pt", output="images")
        torch.testing.assert_close(images, pipe(faces, generator=generator(), output_type="pt").images)

    def test_an_inpainting_pipeline_is_refused(self, pipe, faces, tmp_path):
        lama = LaMaEstimator(base_channels=8, num_downsamples=1, num_blocks=1)
        DifFaceInpaintPipeline(pipe.unet, lama, ddim()).save_pretrained(tmp_path)
        made = ModularPipeline.from_pretrained(tmp_path)
        made.load_components()
        with pytest.raises(ValueError, match="`estimator` is a LaMaEstimator, which takes a mask"):
            made(image=faces)
