"""What the chain now believes the clean face is, and steps in which that is corrected."""

from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from .schedulers import DDIM


def predict_clean(
    scheduler: SchedulerMixin, epsilon: torch.Tensor, timestep: torch.Tensor, scaled_sample: torch.Tensor
) -> torch.Tensor:
    """Return the clean face that the noise prediction implies, clamped to [-1,1] (Ho et al. 2020, eq. 15).

    Args:
        scheduler: holds the cumulative alphas.
        epsilon: predicted noise, `[B,3,H,W]`.
        timestep: of the prediction, one or `[B]`.
        scaled_sample: x_t as the network saw it, that is after `scale_model_input`.
    """
    return imply_clean(scheduler, epsilon, timestep, scaled_sample).clamp(-1, 1)


def imply_clean(
    scheduler: SchedulerMixin, epsilon: torch.Tensor, timestep: torch.Tensor, scaled_sample: torch.Tensor
) -> torch.Tensor:
    """Return what `predict_clean` clamps."""
    alpha_cumprod = _alphas_cumprod_at(scheduler, timestep, scaled_sample.device)
    return (scaled_sample - (1 - alpha_cumprod).sqrt() * epsilon) / alpha_cumprod.sqrt()


def imply_noise(
    scheduler: SchedulerMixin, clean: torch.Tensor, timestep: torch.Tensor, scaled_sample: torch.Tensor
) -> torch.Tensor:
    """Return the noise prediction that implies a clean face in [-1,1]: the inverse of `predict_clean`."""
    alpha_cumprod = _alphas_cumprod_at(scheduler, timestep, scaled_sample.device)
    return (scaled_sample - alpha_cumprod.sqrt() * clean) / (1 - alpha_cumprod).sqrt()


def _alphas_cumprod_at(scheduler: SchedulerMixin, timestep: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the cumulative alphas of one timestep, or of each of `[B]`, to be multiplied with images `[B,3,H,W]`.

    Between two whole timesteps the logarithm of the noise level is interpolated, as schedulers do that come to be there. One
    timestep stays on the host, and so does the number that comes of it: no GPU waits for that.
    """
    alphas_cumprod = scheduler.alphas_cumprod
    if timestep.ndim:
        alphas_cumprod, timestep = alphas_cumprod.to(device), timestep.to(device)
    if timestep.is_floating_point():
        below = timestep.long()
        above = (below + 1).clamp(max=len(alphas_cumprod) - 1)
        share = (timestep - below).to(alphas_cumprod.dtype)  # some schedulers compute timesteps in double precision
        alphas_cumprod = alphas_cumprod[below].logit().lerp(alphas_cumprod[above].logit(), share).sigmoid()
    else:
        alphas_cumprod = alphas_cumprod[timestep]
    return alphas_cumprod.view(-1, 1, 1, 1) if timestep.ndim else alphas_cumprod


def guided_step(
    scheduler: SchedulerMixin,
    model_output: torch.Tensor,
    timestep: torch.Tensor,
    sample: torch.Tensor,
    guide: Callable[[torch.Tensor], torch.Tensor],
    **step_kwargs: Any,
) -> torch.Tensor:
    """Take one step of the chain in which the clean face is corrected.

    DDIM keeps the predicted noise and moves the state by the correction of the clean face, as the original DifFace
    does. Every other scheduler is told the noise that implies the corrected face.

    Args:
        scheduler: owns the step.
        model_output: predicted noise `[B,3,H,W]`, or with the variance `[B,6,H,W]`.
        timestep: of the prediction.
        sample: x_t.
        guide: from a clean face `[B,3,H,W]` in [-1,1] to a better one, which is clamped.
        step_kwargs: further arguments of the scheduler's `step`.

    Returns:
        The state after the step.
    """
    if isinstance(scheduler, DDIM):
        step = cast(Any, scheduler).step(model_output, timestep, sample, **step_kwargs)
        clean = step.pred_original_sample
        previous = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        alpha_cumprod = scheduler.alphas_cumprod[previous] if previous >= 0 else scheduler.final_alpha_cumprod
        return step.prev_sample + alpha_cumprod.sqrt() * (guide(clean).clamp(-1, 1) - clean)
    scaled = scheduler.scale_model_input(sample, timestep)
    epsilon, variance = model_output[:, :3], model_output[:, 3:]
    clean = guide(predict_clean(scheduler, epsilon, timestep, scaled)).clamp(-1, 1)
    implied = torch.cat([imply_noise(scheduler, clean, timestep, scaled), variance], dim=1)
    return scheduler.step(implied, timestep, sample, **step_kwargs).prev_sample
