"""The pipeline as blocks of diffusers' modular pipelines: estimate, noise, denoise and decode, each usable alone."""

import os
from functools import partial
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import (
    BlockState,
    LoopSequentialPipelineBlocks,
    ModularPipeline,
    ModularPipelineBlocks,
    PipelineState,
    SequentialPipelineBlocks,
)
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, ConfigSpec, InputParam, OutputParam

from ..imaging.tensors import to_tensors
from ..models.wrapping import unwrap
from ..utils.checks import check_integer
from .chains import Chains
from .generators import one_for_each
from .modular_state import (
    SETTINGS,
    check_batch,
    check_length,
    count_faces,
    first_line,
    loaded,
    settle_call,
    specify_components,
    specify_configs,
    specify_inputs,
    specify_outputs,
    starts_of_rows,
)
from .networks import check_networks, check_variance, size_of_faces
from .output import check_output_type
from .sampling import AUTO, check_noise
from .stages import (
    estimate_faces,
    estimate_with_starts,
    predict_noise,
    present_estimates,
    present_latents,
    to_batch,
    to_sizes,
)


class DifFaceBlock(ModularPipelineBlocks):
    """A block of the pipeline; the first line of its docstring is its description."""

    model_name = "difface"
    components: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the block does."""
        return first_line(self.__doc__)

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """Networks and schedulers that it uses."""
        return specify_components(self.components)

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        """Saved settings that it reads."""
        return specify_configs() if "preset" in self.optional else []

    @property
    def inputs(self) -> list[InputParam]:
        """What it reads of the state."""
        return specify_inputs(self.required, self.optional)

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """What it puts into the state."""
        return specify_outputs(self.answers)


class DifFaceEstimateStep(DifFaceBlock):
    """Faces to the estimator's guess of the clean ones, at the size of the prior, and where their chains begin."""

    components = ("unet", "estimator", "scheduler")
    required = ("image",)
    optional = SETTINGS
    answers = ("estimate", "starts", "sizes")

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run the block."""
        block_state: Any = self.get_block_state(state)
        pictures = to_tensors(block_state.image)
        unet, estimator = loaded(components, "unet"), loaded(components, "estimator")
        check_networks(unwrap(unet), unwrap(estimator), is_inpainting=False)
        margin = components.config.noise_margin
        sampling, scheduler = settle_call(components, block_state, can_choose_starts=margin is not None)
        check_variance(unwrap(unet), scheduler)
        size = size_of_faces(unwrap(unet))
        degraded = to_batch(pictures, size, components._execution_device)
        estimate = partial(estimate_faces, estimator, size)
        if sampling.start_timestep == AUTO:
            steps = sampling.num_inference_steps
            block_state.estimate, block_state.starts = estimate_with_starts(
                estimate, scheduler, margin, steps, degraded
            )
        else:
            block_state.estimate, block_state.starts = estimate(degraded), None
        block_state.sizes = [tuple(picture.shape[-2:]) for picture in pictures]
        self.set_block_state(state, block_state)
        return components, state


class DifFaceNoiseStep(DifFaceBlock):
    """Estimates to x_N, the noised state that the chain begins with."""

    components = ("scheduler",)
    required = ("estimate",)
    optional = ("starts", "num_samples", "generator", *SETTINGS)
    answers = ("latents", "generator")

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run the block; it makes `generator` a list of one for each state, with which the chain goes on."""
        block_state: Any = self.get_block_state(state)
        estimate, num_samples = block_state.estimate, block_state.num_samples
        check_batch("estimate", estimate)
        sampling, scheduler = settle_call(components, block_state)
        check_integer("num_samples", num_samples, 1, None)
        rows = estimate.repeat_interleave(num_samples, dim=0)
        check_noise(block_state.generator, None, rows.shape)
        block_state.generator = one_for_each(block_state.generator, len(rows))
        starts = starts_of_rows(scheduler, sampling, block_state.starts, len(rows), num_samples)
        chains = Chains(scheduler, starts, sampling.num_inference_steps, rows.device)
        block_state.latents = chains.noise(rows, block_state.generator, sampling.s_noise).float()
        self.set_block_state(state, block_state)
        return components, state


class DifFaceScaleStep(DifFaceBlock):
    """Within the loop: x_t to what the prior wants to see."""

    required = ("latents",)

    @torch.no_grad()
    def __call__(self, components: Any, block_state: BlockState, i: int, t: torch.Tensor) -> tuple[Any, BlockState]:
        """Set `scaled_latents`, `[B,3,S,S]`, for the network's call number `i`."""
        block_state.scaled_latents = block_state.chains.scale_model_input(block_state.latents, i)
        return components, block_state


class DifFacePredictStep(DifFaceBlock):
    """Within the loop: the prior's prediction of the noise in x_t."""

    components = ("unet",)

    @torch.no_grad()
    def __call__(self, components: Any, block_state: BlockState, i: int, t: torch.Tensor) -> tuple[Any, BlockState]:
        """Set `noise_prediction`, `[B,3,S,S]`, or `[B,6,S,S]` with the variance, at the timestep `t`."""
        block_state.noise_prediction = predict_noise(
            components.unet, block_state.scaled_latents, t, block_state.unet_dtype
        )
        return components, block_state


class DifFaceWalkStep(DifFaceBlock):
    """Within the loop: one step of the schedulers, from x_t towards x_0."""

    components = ("scheduler",)
    answers = ("latents",)

    @torch.no_grad()
    def __call__(self, components: Any, block_state: BlockState, i: int, t: torch.Tensor) -> tuple[Any, BlockState]:
        """Set `latents` to the state behind the network's call number `i`."""
        block_state.latents = block_state.chains.step(
            block_state.noise_prediction, i, block_state.latents, block_state.sampling.eta, block_state.generator
        )
        return components, block_state


class DifFaceDenoiseStep(LoopSequentialPipelineBlocks):
    """x_N to x_0: in each step the prior predicts the noise, and the schedulers take it away.

    The blocks of the loop share, besides the state, `chains` (`Chains`), `sampling` (`Sampling`) and `unet_dtype`. A block
    that is put behind the last one sees each state as a callback of the pipeline does.
    """

    model_name = "difface"
    block_classes = [DifFaceScaleStep, DifFacePredictStep, DifFaceWalkStep]  # noqa: RUF012  as diffusers reads it
    block_names = ["scale", "predict", "walk"]  # noqa: RUF012

    @property
    def description(self) -> str:
        """What the block does."""
        return first_line(self.__doc__)

    @property
    def loop_expected_components(self) -> list[ComponentSpec]:
        """Networks and schedulers that it uses."""
        return specify_components(("unet", "scheduler"))

    @property
    def loop_expected_configs(self) -> list[ConfigSpec]:
        """Saved settings that it reads."""
        return specify_configs()

    @property
    def loop_inputs(self) -> list[InputParam]:
        """What it reads of the state."""
        return specify_inputs(("latents",), ("starts", "num_samples", "generator", *SETTINGS))

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run the blocks of the loop for each call of the network."""
        block_state: Any = self.get_block_state(state)
        unet, latents, num_samples = loaded(components, "unet"), block_state.latents, block_state.num_samples
        check_batch("latents", latents)
        sampling, scheduler = settle_call(components, block_state)
        check_variance(unwrap(unet), scheduler)
        shape = [len(latents), 3, *size_of_faces(unwrap(unet))]
        check_noise(None, latents, shape)
        check_noise(block_state.generator, None, shape)
        starts = starts_of_rows(scheduler, sampling, block_state.starts, len(latents), num_samples)
        device = components._execution_device
        block_state.chains = Chains(scheduler, starts, sampling.num_inference_steps, device)
        block_state.sampling, block_state.unet_dtype = sampling, unwrap(unet).dtype
        block_state.generator = one_for_each(block_state.generator, len(latents))
        block_state.latents = latents.to(device, torch.float32)
        timesteps = block_state.chains.timesteps
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for step, timestep in enumerate(timesteps):
                components, block_state = self.loop_step(components, block_state, i=step, t=timestep)
                progress_bar.update()
        self.set_block_state(state, block_state)
        return components, state


class DifFaceDecodeStep(DifFaceBlock):
    """x_0 to pictures of the sizes that were given; estimates too, where there are any."""

    required = ("latents",)
    optional = ("estimate", "sizes", "num_samples", "output_type")
    answers = ("images", "estimates")

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run the block."""
        block_state: Any = self.get_block_state(state)
        latents, estimate, num_samples = block_state.latents, block_state.estimate, block_state.num_samples
        check_batch("latents", latents)
        check_output_type(block_state.output_type)
        count = count_faces(len(latents), num_samples)
        sizes = block_state.sizes or [latents.shape[-2:]] * count
        check_length("sizes", sizes, count)
        to_pictures = partial(to_sizes, sizes=[size for size in sizes for _ in range(num_samples)])
        block_state.images = present_latents(latents, to_pictures, block_state.output_type)
        block_state.estimates = None
        if estimate is not None:
            check_batch("estimate", estimate)
            check_length("estimate", estimate, count)
            rows = estimate.repeat_interleave(num_samples, dim=0)
            block_state.estimates = present_estimates(rows, to_pictures, block_state.output_type)
        self.set_block_state(state, block_state)
        return components, state


class DifFaceBlocks(SequentialPipelineBlocks):
    """Blind restoration of aligned faces, as `DifFacePipeline` does it.

    It takes the arguments of the pipeline's call but for callbacks, whose place is in the loop of "denoise", and `latents`: for
    a ready x_N, take "estimate" and "noise" out.
    """

    block_classes = [DifFaceEstimateStep, DifFaceNoiseStep, DifFaceDenoiseStep, DifFaceDecodeStep]  # noqa: RUF012
    block_names = ["estimate", "noise", "denoise", "decode"]  # noqa: RUF012

    @property
    def description(self) -> str:
        """What the blocks do."""
        return first_line(self.__doc__)

    @property
    def outputs(self) -> list[OutputParam]:  # ty: ignore  diffusers annotates names
        """What is left in the end."""
        return specify_outputs(("images", "estimates"))

    @torch.no_grad()
    def __call__(self, pipeline: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        """Run the blocks; a wrong `output_type` is refused before the chain, not behind it."""
        check_output_type(state.get("output_type") or "pil")
        return super().__call__(pipeline, state)


class DifFaceModularPipeline(ModularPipeline):
    """What `DifFaceBlocks` run in; see `diffusers.ModularPipeline`."""

    default_blocks_name = "DifFaceBlocks"

    def __init__(
        self,
        blocks: ModularPipelineBlocks | None = None,
        pretrained_model_name_or_path: str | os.PathLike | None = None,
        **kwargs: Any,
    ) -> None:
        if pretrained_model_name_or_path is not None:
            pretrained_model_name_or_path = os.fspath(
                pretrained_model_name_or_path
            )  # components load from texts alone
        super().__init__(blocks, pretrained_model_name_or_path, **kwargs)
