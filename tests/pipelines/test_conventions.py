"""What users of diffusers expect of any pipeline, whatever it does."""

import inspect
import json
from functools import partial

import diffusers
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload
from diffusers import DDIMPipeline, DDPMPipeline, UNet2DModel

from difface_diffusers import (
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SRCNNEstimator,
    SwinIREstimator,
)
from difface_diffusers.pipelines.sampling import Sampling

from ..conftest import SIZE, ddim, tiny_estimator, tiny_unet


def own_components():
    """A prior on patches that diffusers does not have, and a transformer as the estimator."""
    torch.manual_seed(1)
    unet = DifFaceUNet2DModel(
        sample_size=SIZE,
        out_channels=6,
        block_out_channels=(8, 16),
        layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        patch_size=2,
    )
    estimator = SwinIREstimator(
        embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=4, scale=2, num_feat=8, drop_path_rate=0.0
    )
    return {"unet": unet.eval(), "estimator": estimator.eval(), "scheduler": ddim()}


def plain_components():
    return {"unet": tiny_unet(), "estimator": tiny_estimator(), "scheduler": ddim()}


@pytest.fixture(params=[own_components, plain_components], ids=["own", "plain"])
def components(request):
    return request.param()


@pytest.fixture
def pipe(components):
    pipe = DifFacePipeline(**components, default_num_inference_steps=3, default_start_timestep=300, default_eta=0.25)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def face(faces):
    return faces[:1]


def run(pipe, image, **arguments):
    arguments = {"generator": torch.Generator().manual_seed(0), "output_type": "pt"} | arguments
    return pipe(image, **arguments)[0]


def assert_same(result, expected, atol=1e-5):
    torch.testing.assert_close(result, expected, rtol=0, atol=atol)


class TestSaving:
    @pytest.mark.parametrize("safe_serialization", [True, False])
    def test_a_loaded_pipeline_answers_alike(self, pipe, face, tmp_path, safe_serialization):
        pipe.save_pretrained(tmp_path, safe_serialization=safe_serialization)
        loaded = DifFacePipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert_same(run(loaded, face), run(pipe, face))
        for name, part in pipe.components.items():
            assert type(getattr(loaded, name)) is type(part)
        defaults = {key: value for key, value in loaded.config.items() if key.startswith("default_")}
        assert defaults == {
            "default_num_inference_steps": 3,
            "default_start_timestep": 300,
            "default_eta": 0.25,
            "default_s_noise": 1.0,
        }

    def test_components_are_saved_under_names_that_survive_moving_files(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        libraries = {name: index[name][0] for name in ("unet", "estimator", "scheduler")}
        assert set(libraries.values()) <= {"diffusers", "difface_diffusers"}

    def test_a_component_may_be_replaced_while_loading(self, pipe, face, tmp_path):
        pipe.save_pretrained(tmp_path)
        other = tiny_estimator()
        loaded = DifFacePipeline.from_pretrained(tmp_path, estimator=other)
        assert loaded.estimator is other

    def test_variants(self, pipe, face, tmp_path):
        pipe.save_pretrained(tmp_path, variant="fp16")
        for part in ("unet", "estimator"):
            assert [path.name for path in (tmp_path / part).glob("*.safetensors")] == [
                "diffusion_pytorch_model.fp16.safetensors"
            ]
        loaded = DifFacePipeline.from_pretrained(tmp_path, variant="fp16")
        loaded.set_progress_bar_config(disable=True)
        assert_same(run(loaded, face), run(pipe, face))

    def test_a_variant_that_was_not_saved_is_refused(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="variant=fp16"):
            DifFacePipeline.from_pretrained(tmp_path, variant="fp16")

    def test_large_weights_are_sharded(self, pipe, face, tmp_path):
        pipe.save_pretrained(tmp_path, max_shard_size="20KB")
        assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
        loaded = DifFacePipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert_same(run(loaded, face), run(pipe, face))


class TestDtype:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_comes_without_nan_and_near(self, pipe, face, dtype):
        expected = run(pipe, face)
        pipe.to(dtype)
        assert pipe.dtype is pipe.unet.dtype is pipe.estimator.dtype is dtype
        result = run(pipe, face)
        assert result.dtype is torch.float32
        assert_same(result, expected, atol=0.1)

    def test_half_precision_is_kept_by_saving_and_loading(self, pipe, face, tmp_path):
        pipe.to(torch.float16).save_pretrained(tmp_path)
        loaded = DifFacePipeline.from_pretrained(tmp_path, dtype=torch.float16)
        loaded.set_progress_bar_config(disable=True)
        assert loaded.unet.dtype is loaded.estimator.dtype is torch.float16
        assert_same(run(loaded, face), run(pipe, face), atol=1e-2)

    def test_each_component_may_have_its_own(self, pipe, face, tmp_path):
        pipe.save_pretrained(tmp_path)
        dtypes = {"unet": torch.bfloat16, "default": torch.float32}
        loaded = DifFacePipeline.from_pretrained(tmp_path, dtype=dtypes)
        loaded.set_progress_bar_config(disable=True)
        assert (loaded.unet.dtype, loaded.estimator.dtype) == (torch.bfloat16, torch.float32)
        assert_same(run(loaded, face), run(pipe, face), atol=0.1)


class TestCall:
    def test_optional_arguments_have_their_usual_names(self):
        parameters = inspect.signature(DifFacePipeline.__call__).parameters
        for name in ("num_inference_steps", "generator", "latents", "output_type", "return_dict"):
            assert parameters[name].default is not inspect.Parameter.empty
        assert "kwargs" not in parameters

    def test_a_tuple_holds_what_the_output_holds(self, pipe, face):
        output = pipe(face, generator=torch.Generator().manual_seed(0), output_type="pt")
        images, estimates = pipe(face, generator=torch.Generator().manual_seed(0), output_type="pt", return_dict=False)
        assert torch.equal(output.images, images) and torch.equal(output["estimates"], estimates)
        assert list(output.keys()) == ["images", "estimates"]

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_a_batch_holds_what_its_pictures_give_alone(self, pipe, face, size):
        generators = [torch.Generator().manual_seed(seed) for seed in range(size)]
        batch = run(pipe, size * [face], generator=generators)
        assert len(batch) == size
        for seed, image in enumerate(batch):
            assert_same(image[None], run(pipe, face, generator=torch.Generator().manual_seed(seed)), atol=1e-4)

    def test_several_samples_of_one_picture(self, pipe, faces):
        assert run(pipe, faces, num_samples=3).shape == (6, 3, SIZE, SIZE)

    def test_output_types_agree(self, pipe, face):
        tensor, array = run(pipe, face), run(pipe, face, output_type="np")
        picture = run(pipe, face, output_type="pil")[0]
        assert_same(torch.from_numpy(array).permute(0, 3, 1, 2), tensor)
        assert_same(torch.tensor(list(picture.tobytes())).view(SIZE, SIZE, 3).permute(2, 0, 1) / 255, tensor[0], 0.002)

    def test_latents_are_the_state_the_chain_ends_with(self, pipe, face):
        states = []

        def keep(pipe, step, timestep, tensors):
            states.append(tensors["latents"])
            return {}

        out = pipe(face, generator=torch.Generator().manual_seed(0), output_type="latent", callback_on_step_end=keep)
        assert torch.equal(out.images, states[-1])
        assert_same((out.images / 2 + 0.5).clamp(0, 1), run(pipe, face))
        guess = pipe.estimator(face).clamp(0, 1)
        assert_same(out.estimates, guess * 2 - 1)

    def test_latents_have_the_size_of_the_model(self, pipe):
        assert run(pipe, torch.rand(1, 3, 50, 40), output_type="latent").shape == (1, 3, SIZE, SIZE)


class TestCallback:
    def test_gets_a_subset_or_everything_it_may(self, pipe, face):
        seen = []

        def look(pipe, step, timestep, tensors):
            seen.append((step, int(timestep), sorted(tensors)))
            return tensors

        for names in (["latents"], ["pred_original_sample"], pipe._callback_tensor_inputs):
            seen.clear()
            run(
                pipe,
                face,
                output_type="latent",
                callback_on_step_end=look,
                callback_on_step_end_tensor_inputs=names,
            )
            assert [step for step, _, _ in seen] == list(range(pipe.num_timesteps))
            assert all(tensors == sorted(names) for _, _, tensors in seen)

    def test_changes_the_state(self, pipe, face):
        def erase_at_the_end(pipe, step, timestep, tensors):
            if step == pipe.num_timesteps - 1:
                tensors["latents"] = torch.zeros_like(tensors["latents"])
            return tensors

        result = run(
            pipe,
            face,
            output_type="latent",
            callback_on_step_end=erase_at_the_end,
            callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs,
        )
        assert result.abs().sum() == 0


class TestComponents:
    def test_are_the_arguments_of_the_constructor(self, pipe, components):
        assert pipe.components.keys() == components.keys()
        assert all(pipe.components[name] is part for name, part in components.items())

    def test_make_another_pipeline(self, pipe, face):
        twin = DifFacePipeline(**pipe.components)
        twin.set_progress_bar_config(disable=True)
        arguments = {"num_inference_steps": 3, "start_timestep": 300, "eta": 0.25}
        assert_same(run(twin, face, **arguments), run(pipe, face, **arguments))

    def test_from_pipe_shares_the_weights_and_keeps_the_defaults(self, pipe, face):
        twin = DifFacePipeline.from_pipe(pipe)
        assert twin.unet is pipe.unet and twin.estimator is pipe.estimator
        assert twin.config.default_start_timestep == 300
        twin.set_progress_bar_config(disable=True)
        assert_same(run(twin, face), run(pipe, face))

    @pytest.mark.parametrize("other", [DDIMPipeline, DDPMPipeline])
    def test_from_pipe_comes_and_goes(self, face, other):
        pipe = DifFacePipeline(**plain_components())
        unconditional = other.from_pipe(pipe)
        assert unconditional.unet is pipe.unet
        back = DifFacePipeline.from_pipe(unconditional, estimator=pipe.estimator)
        assert back.unet is pipe.unet and back.estimator is pipe.estimator
        assert run(back, face, num_inference_steps=2).isfinite().all()

    def test_from_pipe_takes_a_prior_and_an_estimator_of_any_class(self, face):
        class OwnPrior(DifFaceUNet2DModel):
            pass

        class OwnEstimator(SRCNNEstimator):
            pass

        pipe = DifFacePipeline(tiny_unet(cls=OwnPrior), OwnEstimator(num_channels=4, depth=1), ddim())
        twin = DifFacePipeline.from_pipe(pipe)
        assert twin.unet is pipe.unet and twin.estimator is pipe.estimator

    def test_from_pipe_between_restoration_and_inpainting(self, pipe, face):
        settings = {"default_start_timestep": "auto", "noise_margin": 3.0, "presets": {"fast": {"eta": 1.0}}}
        restorer = DifFacePipeline(**pipe.components, **settings)
        lama = LaMaEstimator(base_channels=8, num_downsamples=1, num_blocks=1).eval()
        inpainter = DifFaceInpaintPipeline.from_pipe(restorer, estimator=lama)
        assert inpainter.unet is restorer.unet and inpainter.scheduler is restorer.scheduler
        assert inpainter.with_defaults() == DifFaceInpaintPipeline(pipe.unet, lama, pipe.scheduler).with_defaults()
        assert not inpainter.config.presets
        inpainter.set_progress_bar_config(disable=True)
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, 8:16] = 1
        assert inpainter(face, mask, num_inference_steps=2, output_type="pt").images.isfinite().all()

        back = DifFacePipeline.from_pipe(inpainter, estimator=restorer.estimator, default_num_inference_steps=2)
        assert back.unet is restorer.unet and back.can_choose_starts
        assert back.with_defaults() == Sampling(2, 400, 0.5, 1.0)

    @pytest.mark.parametrize("kind", [DifFacePipeline, DifFaceInpaintPipeline])
    def test_from_pipe_says_what_is_missing(self, pipe, kind):
        other = pipe if kind is DifFaceInpaintPipeline else DDIMPipeline(pipe.unet, pipe.scheduler)
        with pytest.raises(
            ValueError, match=rf"`estimator` is missing: .* Use {kind.__name__}.from_pipe\(pipe, estimator="
        ):
            kind.from_pipe(other)

    def test_none_is_optional(self):
        assert DifFacePipeline._optional_components == []

    def test_progress_bar_is_configured(self, pipe, face, capsys):
        run(pipe, face)
        assert "3/3" not in capsys.readouterr().err
        pipe.set_progress_bar_config(disable=False, desc="restoring")
        run(pipe, face)
        error = capsys.readouterr().err
        assert "3/3" in error and "restoring" in error

    @pytest.mark.parametrize(
        "scheduler",
        [
            "DDPMScheduler",
            "DEISMultistepScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSinglestepScheduler",
            "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "LMSDiscreteScheduler",
            "PNDMScheduler",
            "UniPCMultistepScheduler",
        ],
    )
    def test_any_compatible_scheduler_can_be_swapped_in(self, pipe, face, scheduler):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        results = [run(pipe, face, num_inference_steps=13) for _ in range(2)]
        assert results[0].shape == face.shape and results[0].isfinite().all()
        assert_same(*results)


class TestWrappedNetworks:
    @pytest.fixture(params=["compile", "DataParallel"])
    def wrap(self, request):
        return {"compile": partial(torch.compile, backend="eager"), "DataParallel": torch.nn.DataParallel}[
            request.param
        ]

    @pytest.mark.parametrize("names", [["unet"], ["estimator"], ["unet", "estimator"]])
    def test_answer_alike(self, pipe, face, wrap, names):
        expected = run(pipe, face)
        for name in names:
            setattr(pipe, name, wrap(getattr(pipe, name)))
        assert_same(run(pipe, face), expected)
        assert pipe.device == torch.device("cpu") and pipe.model_size == (SIZE, SIZE)

    def test_an_inpainting_estimator_is_known_by_its_mask(self, pipe, face, wrap):
        lama = LaMaEstimator(base_channels=8, num_downsamples=1, num_blocks=1).eval()
        inpainter = DifFaceInpaintPipeline(pipe.unet, wrap(lama), pipe.scheduler, default_num_inference_steps=2)
        inpainter.set_progress_bar_config(disable=True)
        assert inpainter(face, torch.ones(1, SIZE, SIZE), output_type="pt").images.isfinite().all()
        with pytest.raises(ValueError, match="`estimator` is a SRCNNEstimator, which takes no mask"):
            DifFaceInpaintPipeline(pipe.unet, wrap(tiny_estimator()), pipe.scheduler)(face, torch.ones(1, SIZE, SIZE))

    @pytest.mark.parametrize("name", ["unet", "estimator"])
    def test_a_compiled_one_is_shared_and_saved_as_it_was(self, pipe, face, name, tmp_path):
        expected = run(pipe, face)
        setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))
        assert_same(run(DifFacePipeline.from_pipe(pipe), face), expected)
        pipe.save_pretrained(tmp_path)
        assert_same(run(DifFacePipeline.from_pretrained(tmp_path), face), expected)


class TestMemory:
    """Offloading needs an accelerator; with the CPU in its place everything but the copying is the same."""

    def test_model_offload_moves_one_model_after_the_other(self, pipe, face):
        expected = run(pipe, face)
        for _ in range(2):
            pipe.enable_model_cpu_offload(device="cpu")
            assert_same(run(pipe, face), expected)
            for model in (pipe.unet, pipe.estimator):
                assert isinstance(model._hf_hook, CpuOffload)
        assert pipe.model_cpu_offload_seq == "estimator->unet"
        estimator_hook, unet_hook = pipe._all_hooks
        assert unet_hook.model is pipe.unet
        assert pipe.unet._hf_hook.prev_module_hook is estimator_hook

    def test_a_call_frees_the_last_model(self, pipe, face, monkeypatch):
        freed = []
        monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))
        run(pipe, face)
        assert freed == [True]

    def test_sequential_offload_takes_hold_of_every_weight(self, pipe):
        pipe.enable_sequential_cpu_offload(device="cpu")  # accelerate cannot run it there: it needs a second device
        assert pipe._execution_device.type == "cpu"
        for model in (pipe.unet, pipe.estimator):
            assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
            assert isinstance(getattr(model._hf_hook, "hooks", [model._hf_hook])[0], AlignDevicesHook)

    @pytest.mark.parametrize(
        "arguments", [{"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"}]
    )
    def test_group_offload_changes_nothing(self, pipe, face, arguments):
        expected = run(pipe, face)
        pipe.enable_group_offload(onload_device=torch.device("cpu"), **arguments)
        for model in (pipe.unet, pipe.estimator):
            hooked = [module for module in model.modules() if hasattr(module, "_diffusers_hook")]
            assert hooked
            assert all(module._diffusers_hook.get_hook("group_offloading") is not None for module in hooked)
        assert_same(run(pipe, face), expected)

    def test_device_map(self, pipe, face, tmp_path):
        pipe.save_pretrained(tmp_path)
        loaded = DifFacePipeline.from_pretrained(tmp_path, device_map="cpu")
        loaded.set_progress_bar_config(disable=True)
        assert_same(run(loaded, face), run(pipe, face))

    @pytest.mark.parametrize("storage_dtype", [torch.float8_e4m3fn, torch.bfloat16])
    def test_layerwise_casting_stores_small_and_computes_large(self, pipe, face, storage_dtype):
        expected = run(pipe, face)
        for model in (pipe.unet, pipe.estimator):
            model.enable_layerwise_casting(storage_dtype=storage_dtype, compute_dtype=torch.float32)
            stored = {parameter.dtype for parameter in model.parameters()}
            assert storage_dtype in stored
        result = run(pipe, face)
        assert result.isfinite().all()
        assert_same(result, expected, atol=1.0 if storage_dtype is torch.float8_e4m3fn else 0.1)

    def test_layerwise_casting_of_a_bfloat16_prior(self, pipe, face):
        pipe.to(torch.bfloat16)
        pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
        assert run(pipe, face).isfinite().all()


class TestAttention:
    def test_slicing_changes_nothing(self, pipe, face):
        expected = run(pipe, face)
        for arguments in ({"slice_size": 1}, {"slice_size": "max"}, {}):
            pipe.enable_attention_slicing(**arguments)
            assert_same(run(pipe, face), expected, atol=1e-4)
        pipe.disable_attention_slicing()
        assert_same(run(pipe, face), expected)

    def test_backends_change_nothing(self, pipe, face):
        expected = run(pipe, face)
        pipe.unet.set_attention_backend("native")
        assert_same(run(pipe, face), expected)


def test_the_prior_is_a_unet_that_diffusers_knows():
    assert issubclass(DifFaceUNet2DModel, UNet2DModel)
