"""DifFace: aligned degraded faces in, restored faces out (Yue and Loy, TPAMI 2024, arXiv 2212.06512)."""

from functools import partial

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image

from ..imaging.tensors import to_tensors
from ..models import DifFaceUNet2DModel, DiffusedEstimator, SRCNNEstimator, SwinIREstimator
from .base import EstimateAndWalkPipeline
from .output import DifFacePipelineOutput
from .runs import as_run
from .sampling import AUTO, Callback, Sampling
from .stages import estimate_with_starts, to_batch, to_sizes


class DifFacePipeline(EstimateAndWalkPipeline):
    """Blind restoration of aligned faces.

    The estimator guesses the clean face; the guess is noised to an intermediate state x_N; the unconditional prior
    walks back from there. The noise contracts the estimator's error, so unknown degradations are survived.

    Args:
        unet: prior that predicts epsilon; 3 output channels, or 6 of which the last 3 are the learned variance.
        estimator: answers a clean face in [0,1] for a degraded one.
        scheduler: any variance-preserving scheduler that can start in the middle of the chain; swap it with
            `pipe.scheduler = OtherScheduler.from_config(pipe.scheduler.config)`.
        default_num_inference_steps: used where `__call__` gets `None`, as are the next three.
        default_start_timestep: see `__call__`.
        default_eta: see `__call__`.
        default_s_noise: see `__call__`.
        presets: by name, a dictionary of those four arguments of `__call__`, and of `scheduler`, that go together; what it
            leaves out is the default. Saved with the pipeline.
        noise_margin: how many times as strong as the estimator's disagreement with itself the noise of x_N is where
            `start_timestep` is "auto"; `None` if that has not been measured for these networks.
        clean_damage: the largest damage that the estimator sees in clean faces, see `photos.treatment`; `restore_photo` leaves
            faces with less as they are. `None` if that has not been measured for this estimator.

    Raises:
        ValueError: a default or a setting of a preset is out of range; a preset has a setting that is none of the five;
            `noise_margin` or `clean_damage` is not above 0.
    """

    def __init__(
        self,
        unet: UNet2DModel | DifFaceUNet2DModel,
        estimator: DiffusedEstimator | SwinIREstimator | SRCNNEstimator,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 100,
        default_start_timestep: int | str = 400,
        default_eta: float = 0.5,
        default_s_noise: float = 1.0,
        presets: dict | None = None,  # `from_pretrained` cannot check a parametrized type
        noise_margin: float | None = None,
        clean_damage: float | None = None,
    ) -> None:
        defaults = {
            "num_inference_steps": default_num_inference_steps,
            "start_timestep": default_start_timestep,
            "eta": default_eta,
            "s_noise": default_s_noise,
        }
        super().__init__(unet, estimator, scheduler, defaults, presets)
        for name, value in {"noise_margin": noise_margin, "clean_damage": clean_damage}.items():
            if value is not None:
                if not value > 0:
                    raise ValueError(f"`{name}` is {value}; it must be above 0.")
                self.register_to_config(**{name: value})

    @property
    def can_choose_starts(self) -> bool:
        """Whether `start_timestep` may be "auto"."""
        return self.config.get("noise_margin") is not None

    @as_run
    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | np.ndarray | torch.Tensor | list,
        num_inference_steps: int | None = None,
        start_timestep: int | str | None = None,
        eta: float | None = None,
        num_samples: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        s_noise: float | None = None,
        preset: str | None = None,
        scheduler: str | None = None,
    ) -> DifFacePipelineOutput | tuple:
        """Restore aligned faces.

        Args:
            image: PIL image, array `[H,W,3]` or `[N,H,W,3]`, tensor `[3,H,W]` or `[N,3,H,W]`, or a list of these;
                RGB, uint8 or float in [0,1]. Any size: resized to the model's and back (bicubic, antialias).
            num_inference_steps: network calls K, 1 .. N. `None` means what `preset` says, or the default saved with the
                pipeline, here and in the next two.
            start_timestep: N, where the chain begins on the prior's own scale of 1 .. 1000. A larger N survives worse
                degradations and keeps less of the input. "auto" chooses one for each face, see `prepare_estimates`.
            eta: share of fresh noise in each step, 0 (deterministic) .. 1; for DDIM (Song et al. 2021, eq. 16), other
                schedulers ignore it.
            num_samples: restorations per input image.
            generator: source of all noise, one or one per output image. The same input with the same generator gives
                the same picture, alone or in a batch.
            latents: a ready x_N, `[N*num_samples,3,S,S]`, on the scheduler's own scale; exclusive with `generator`.
            output_type: "pil", "np" or "pt"; "latent" for what the chain ends with, neither resized nor clamped.
            return_dict: `False` returns the tuple (images, estimates).
            callback_on_step_end: called as `callback(pipe, step, timestep, tensors)` after each call of the prior; may
                return changed `latents`. `timestep` is that of all faces, or `[N*num_samples]` where "auto" has them start
                apart. Setting `pipe._interrupt = True` ends the chain with what it has.
            callback_on_step_end_tensor_inputs: what `tensors` holds, `["latents"]` unless given: `latents` is x_t,
                `pred_original_sample` the clean face the prior believes in now, `[N*num_samples,3,S,S]` in [-1,1].
            s_noise: factor on the noise of x_N, above 0 and at most 2; `None` as above. A little above 1 makes up for the
                detail that deterministic chains lose, and adds grain (as S_noise in Karras et al. 2022, section 4).
            preset: name of settings saved with the pipeline, one of `pipe.config.presets`; arguments that are given
                come before it.
            scheduler: of this call alone, like the pipeline's own in all but its kind: ddim, ddpm, dpm-multistep,
                dpm-singlestep, unipc, euler, euler-ancestral, heun, lms, deis or pndm. `None` as above, and the pipeline's
                own where a preset names none.

        Returns:
            `DifFacePipelineOutput`.

        Raises:
            TypeError: `image`, `generator` or `latents` is of the wrong type.
            ValueError: an argument is out of range, or contradicts another; the message names it.
        """
        # 0. Defaults, and pictures as a list of [3,H,W] in [0,1]; everything is checked once
        pictures = to_tensors(image)
        request = self.prepare_request(
            num_images=len(pictures),
            sampling=self.with_defaults(
                preset,
                num_inference_steps=num_inference_steps,
                start_timestep=start_timestep,
                eta=eta,
                s_noise=s_noise,
                scheduler=scheduler,
            ),
            num_samples=num_samples,
            generator=generator,
            latents=latents,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        device = self._execution_device

        # 1. The degraded faces at the model's size, and the estimator's guess of the clean ones: [N,3,S,S] in [0,1]
        degraded = to_batch(pictures, self.model_size, device)
        estimates, starts = self.prepare_estimates(degraded, request.sampling)
        estimates = estimates.repeat_interleave(num_samples, dim=0)  # from here on one row per sample

        # 2. The guess noised to the state its chain starts from, [N*num_samples,3,S,S] float32, and the walk back to x_0
        starts = [start for start in starts for _ in range(num_samples)]
        latents = self.restore_estimates(estimates, starts, request)

        # 3. To the size of each input and to the type asked for
        sizes = [picture.shape[-2:] for picture in pictures for _ in range(num_samples)]
        return self.finish(latents, estimates, partial(to_sizes, sizes=sizes), output_type, return_dict)

    def prepare_estimates(self, degraded: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, list[int]]:
        """Return the guesses of the clean faces, `[B,3,S,S]` in [0,1], and N of each.

        Where the start of `sampling` is "auto", the estimator is asked about the mirror image too. The guess is the mean of its
        two answers. The more they differ, the less it knows: N is the first timestep that has `noise_margin` times as much
        noise as the root mean square of the difference, and at least the number of steps.

        Args:
            degraded: faces `[B,3,S,S]` in [0,1].
            sampling: see `__call__`.
        """
        if sampling.start_timestep != AUTO:
            return self.estimate(degraded), [int(sampling.start_timestep)] * len(degraded)
        margin, steps = self.config.noise_margin, sampling.num_inference_steps
        return estimate_with_starts(self.estimate, self.scheduler, margin, steps, degraded)
