"""What the pipelines share: settings, checks, the estimate, the noise and the walk back."""

import inspect
from collections.abc import Sequence
from typing import Any, Self

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..models import DifFaceUNet2DModel, DiffusedEstimator
from ..models.estimator import takes_mask
from ..models.wrapping import unwrap
from ..utils.checks import check_integer
from ..utils.warning import warn_user
from .chains import Chains, Generators, Guide
from .generators import one_for_each
from .networks import check_networks, check_variance, size_of_faces
from .output import DifFacePipelineOutput, check_output_type
from .runs import Runs
from .sampling import (
    SAMPLING_ARGUMENTS,
    Callback,
    Request,
    Sampling,
    check_noise,
    check_noise_shares,
    check_settings,
    check_steps,
    settle,
    to_saveable,
)
from .schedulers import check_scheduler, scheduler_named
from .stages import ToPictures, estimate_faces, predict_noise, present_estimates, present_latents


class EstimateAndWalkPipeline(DiffusionPipeline):
    """Noises an estimate to x_N and lets an unconditional prior walk back from there.

    Args:
        unet: see `DifFacePipeline`, as are all.
        estimator: see there.
        scheduler: see there.
        defaults: of those fields of `Sampling` that are saved; in the config as `default_...`.
        presets: see there.

    Raises:
        ValueError: a default or a setting of a preset is out of range, or a preset has a setting that is none of those.
    """

    is_inpainting = False  # whether the estimator takes a mask too
    can_choose_starts = False  # whether `start_timestep` may be "auto"
    model_cpu_offload_seq = "estimator->unet"
    _callback_tensor_inputs = ["latents", "pred_original_sample"]  # noqa: RUF012  diffusers reads a plain list here

    def __init__(
        self,
        unet: UNet2DModel | DifFaceUNet2DModel,
        estimator: DiffusedEstimator,
        scheduler: SchedulerMixin,
        defaults: dict[str, Any],
        presets: dict | None,
    ) -> None:
        super().__init__()
        defaults = to_saveable(defaults)
        check_settings("default_", **defaults)
        presets = {name: to_saveable(settings) for name, settings in (presets or {}).items()}
        for name, settings in presets.items():
            unknown = sorted(set(settings) - set(SAMPLING_ARGUMENTS))
            if unknown:
                raise ValueError(f"`presets` has {unknown} in {name!r}; settings are {', '.join(SAMPLING_ARGUMENTS)}.")
            check_settings(f"presets[{name!r}].", **settings)
        self.register_modules(unet=unet, estimator=estimator, scheduler=scheduler)
        self.register_to_config(**{f"default_{name}": value for name, value in defaults.items()}, presets=presets)
        self._runs = Runs()

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Make a pipeline of the networks of another, as diffusers does.

        Between restoration and inpainting the estimator does not fit: another must be given. Neither do the defaults and
        presets, which are those of a new pipeline then.

        Args:
            pipeline: one whose prior is of the kind that this pipeline takes.
            **kwargs: arguments of the constructor, instead of what `pipeline` has.

        Raises:
            ValueError: `estimator` is missing.
        """
        shared = pipeline.components
        priors = cls._get_signature_types()["unet"]
        own = {"unet": shared["unet"]} if isinstance(unwrap(shared.get("unet")), priors) else {}
        if "estimator" in shared and takes_mask(shared["estimator"]) == cls.is_inpainting:
            own["estimator"] = shared["estimator"]
        elif "estimator" not in kwargs:
            raise ValueError(
                f"`estimator` is missing: {type(pipeline).__name__} has none that"
                f" {'fills holes' if cls.is_inpainting else 'restores'}. Use {cls.__name__}.from_pipe(pipe, estimator=...)."
            )
        if getattr(pipeline, "is_inpainting", None) != cls.is_inpainting:
            parameters = inspect.signature(cls.__init__).parameters.values()
            own |= {part.name: part.default for part in parameters if part.name.startswith(("default_", "presets"))}
        return super().from_pipe(pipeline, **own | kwargs)

    @property
    def device(self) -> torch.device:
        """Where the prior is; the CPU if it is another program's, as `use_runtime` puts there."""
        return getattr(unwrap(self.unet), "device", torch.device("cpu"))

    @property
    def model_size(self) -> tuple[int, int]:
        """Height and width of the faces that the prior was trained on, pixels."""
        return size_of_faces(unwrap(self.unet))

    @property
    def fills_holes(self) -> bool:
        """`is_inpainting`, as it was called in the last release."""
        warn_user(
            "`fills_holes` is called `is_inpainting` now; the old name goes with the next release.", DeprecationWarning
        )
        return self.is_inpainting

    @property
    def num_timesteps(self) -> int:
        """Network calls of the restoration that this thread is running, or of its last."""
        return self._runs.own.num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether that restoration was told to stop.

        `pipe._interrupt = True` does so: from a callback its own restoration, from elsewhere all that are running.
        """
        return self._runs.own.interrupted

    @property
    def _interrupt(self) -> bool:
        return self.interrupt

    @_interrupt.setter
    def _interrupt(self, interrupted: bool) -> None:
        self._runs.interrupt(interrupted)

    def prepare_request(
        self,
        *,
        num_images: int,
        sampling: Sampling,
        num_samples: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        output_type: str,
        callback_on_step_end: Callback | None,
        callback_on_step_end_tensor_inputs: list[str] | None,
    ) -> Request:
        """Check what a call was given, and return what its chains need to know; see `__call__` and `check_inputs`."""
        tensor_inputs = callback_on_step_end_tensor_inputs
        if tensor_inputs is None:
            tensor_inputs = ["latents"]
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            tensor_inputs = callback_on_step_end.tensor_inputs
        self.check_inputs(
            num_images=num_images,
            sampling=sampling,
            num_samples=num_samples,
            generator=generator,
            latents=latents,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=tensor_inputs,
        )
        generator = one_for_each(generator, num_images * num_samples)
        return Request(sampling, generator, latents, callback_on_step_end, tensor_inputs)

    def restore_estimates(
        self, estimates: torch.Tensor, starts: Sequence[int], request: Request, guide: Guide | None = None
    ) -> torch.Tensor:
        """Noise estimates to x_N and walk back to x_0.

        Args:
            estimates: `[B,3,S,S]` float32 in [0,1].
            starts: N of each.
            request: of the call.
            guide: see `denoise`.

        Returns:
            x_0, float32 `[B,3,S,S]` in about [-1,1].
        """
        chains = self.prepare_chains(starts, request.sampling, estimates.device)
        latents = self.prepare_latents(estimates, chains, request.sampling, request.generator, request.latents)
        return self.denoise(
            latents,
            chains,
            request.sampling.eta,
            request.generator,
            request.callback_on_step_end,
            request.callback_on_step_end_tensor_inputs,
            guide,
        )

    def finish(
        self,
        latents: torch.Tensor,
        estimates: torch.Tensor,
        to_pictures: ToPictures,
        output_type: str,
        return_dict: bool,
    ) -> DifFacePipelineOutput | tuple:
        """Return x_0 and the estimates as `__call__` is to answer them, and offload the networks.

        Args:
            latents: x_0, `[B,3,S,S]`.
            estimates: `[B,3,S,S]` in [0,1].
            to_pictures: from `[B,3,S,S]` in [0,1] to pictures `[3,H,W]` of the sizes that were given.
            output_type: see `__call__`, as is the next.
            return_dict: see there.
        """
        images = present_latents(latents, to_pictures, output_type)
        estimates = present_estimates(estimates, to_pictures, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, estimates
        return DifFacePipelineOutput(images=images, estimates=estimates)

    def with_defaults(self, preset: str | None = None, **arguments: float | str | None) -> Sampling:
        """Return the arguments of `Sampling`; those that are `None` or missing as a preset has them, or the defaults.

        Raises:
            ValueError: the pipeline has no such preset.
        """
        return settle(self.config, preset, **arguments)

    def check_inputs(
        self,
        *,
        num_images: int,
        sampling: Sampling,
        num_samples: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> None:
        """Raise for whatever `__call__` cannot do; see there."""
        unet, estimator = unwrap(self.unet), unwrap(self.estimator)
        check_networks(unet, estimator, self.is_inpainting)
        scheduler = self.scheduler_of(sampling)
        check_scheduler(scheduler)
        check_variance(unet, scheduler)
        check_integer("num_samples", num_samples, 1, None)
        last = scheduler.config.num_train_timesteps
        check_steps(sampling, last, self.can_choose_starts, latents is not None)
        check_noise_shares(eta=sampling.eta, s_noise=sampling.s_noise)
        check_output_type(output_type)
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has {sorted(unknown)}; known are {self._callback_tensor_inputs}."
            )
        check_noise(generator, latents, [num_images * num_samples, 3, *self.model_size])

    def estimate(self, degraded: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        """Return the estimator's guess at the model's size, `[B,3,S,S]` float32 clamped to [0,1].

        Args:
            degraded: faces `[B,3,S,S]` in [0,1].
            conditions: what else the estimator takes, such as the mask of one that inpaints.

        Raises:
            ValueError: the estimator answers something else than one RGB picture for each.
        """
        return estimate_faces(self.estimator, self.model_size, degraded, *conditions)

    def predict_noise(self, scaled_sample: torch.Tensor, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return epsilon, `[B,3,S,S]` float32, and beneath it the three channels of a prior's variance where it has them.

        Args:
            scaled_sample: x_t as the network sees it, `[B,3,S,S]`.
            timestep: one, or `[B]`.
            dtype: the prior's; asking a large network for it takes milliseconds, so that is not done in every step.
        """
        return predict_noise(self.unet, scaled_sample, timestep, dtype)

    def scheduler_of(self, sampling: Sampling) -> SchedulerMixin:
        """Return the pipeline's scheduler, or one like it of the kind that `sampling` names.

        Raises:
            ValueError: there is no such kind.
        """
        return scheduler_named(self.scheduler, sampling.scheduler)

    def prepare_chains(self, starts: Sequence[int], sampling: Sampling, device: torch.device) -> Chains:
        """Set up the chains of a batch on `device` whose rows start at `starts`."""
        scheduler = self.scheduler_of(sampling)
        chains = Chains(scheduler, starts, sampling.num_inference_steps, device)
        self._runs.own.num_timesteps = len(chains.timesteps)
        return chains

    def prepare_latents(
        self,
        estimates: torch.Tensor,
        chains: Chains,
        sampling: Sampling,
        generator: Generators,
        latents: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return x_N, float32 `[B,3,S,S]`: the estimates, `[B,3,S,S]` in [0,1], noised, unless `latents` is a ready one."""
        if latents is None:
            latents = chains.noise(estimates, generator, sampling.s_noise)
        return latents.to(estimates.device, torch.float32)

    def denoise(
        self,
        latents: torch.Tensor,
        chains: Chains,
        eta: float,
        generator: Generators,
        callback_on_step_end: Callback | None,
        callback_on_step_end_tensor_inputs: list[str],
        guide: Guide | None = None,
    ) -> torch.Tensor:
        """Walk back from x_N to x_0: the prior predicts the noise, the schedulers take it away.

        Args:
            latents: x_N, float32 `[B,3,S,S]`.
            chains: of its rows.
            eta: see `__call__`, as are the next three.
            generator: see `__call__`.
            callback_on_step_end: see `__call__`.
            callback_on_step_end_tensor_inputs: see `__call__`.
            guide: corrects the clean faces `[B,3,S,S]` in [-1,1] that each call predicts for some rows of the batch;
                `None` leaves them alone.

        Returns:
            x_0, float32 `[B,3,S,S]` in about [-1,1]; an earlier state if the chains were interrupted.
        """
        dtype = unwrap(self.unet).dtype
        with self.progress_bar(total=len(chains.timesteps)) as progress_bar:
            for step, timestep in enumerate(chains.timesteps):
                if self.interrupt:
                    break
                scaled = chains.scale_model_input(latents, step)
                model_output = self.predict_noise(scaled, timestep, dtype)
                latents = chains.step(model_output, step, latents, eta, generator, guide)

                if callback_on_step_end is not None:
                    tensors = {"latents": latents}
                    if "pred_original_sample" in callback_on_step_end_tensor_inputs:
                        clean = chains.predict_clean(model_output, step, scaled)
                        tensors["pred_original_sample"] = clean if guide is None else guide(clean, slice(None))
                    wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    latents = (callback_on_step_end(self, step, timestep, wanted) or {}).get("latents", latents)
                progress_bar.update()
        return latents
