"""Which timesteps the prior runs, at which level x_N is noised, and what the chain now believes the clean face is."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin


REQUIRED = ("set_timesteps", "add_noise", "step", "order", "alphas_cumprod")
OWN_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
STEP_INPUTS = ("model_output", "timestep", "sample")


@dataclass(frozen=True)
class Schedule:
    """The reverse chain from x_N.

    Attributes:
        timesteps: `[calls]`, the timestep of every network call, in order, on the scheduler's device.
        noise_timestep: the noise level of x_N.
    """

    timesteps: torch.Tensor
    noise_timestep: float


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Raise a `ValueError` unless the scheduler can noise an image to a middle timestep and walk back from there."""
    name = type(scheduler).__name__
    obstacles = [f"lacks {attribute}" for attribute in REQUIRED if not hasattr(scheduler, attribute)] or [
        f"needs {parameter.name} in each step"
        for parameter in inspect.signature(scheduler.step).parameters.values()
        if parameter.default is parameter.empty and parameter.name not in STEP_INPUTS
    ]
    if obstacles:
        raise ValueError(
            f"`scheduler` is a {name}, which cannot start in the middle of the chain: it {', '.join(obstacles)}."
            " Use DDIMScheduler, DPMSolverMultistepScheduler or another variance-preserving scheduler."
        )
    if scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        raise ValueError(
            f"`scheduler` predicts {scheduler.config.prediction_type!r}; the prior answers epsilon, so"
            ' `prediction_type` must be "epsilon".'
        )


def wants_variance(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler reads the three channels in which a prior answers its variance."""
    return isinstance(scheduler, DDPMScheduler) and scheduler.config.variance_type in ("learned", "learned_range")


def set_timesteps(
    scheduler: SchedulerMixin, num_inference_steps: int, start_timestep: int, device: torch.device | str | None = None
) -> Schedule:
    """Set the scheduler up for K network calls from N down, and tell which timesteps these are.

    DPM-Solver++ and Euler, unless their config asks for a spacing of its own, run the K timesteps of `space_out`, from N
    on. Every other scheduler is set to round(K*T/N) steps, T being its training timesteps, and the last K are run: DDIM
    with K = 100 and N = 400 is DDIM-250 from t = 396 down to 0. DDIM and DDPM take x_N one kept step above the first call
    (t = 400), as the original DifFace does; the others take it at the first call's own level. Schedulers that call the
    network twice a step (Heun) run K calls if K is odd, K - 1 if it is even.

    Args:
        scheduler: one that passes `check_scheduler`; its state is set.
        num_inference_steps: K, 1 .. N.
        start_timestep: N, 1 .. T.
        device: where the scheduler keeps its timesteps.

    Raises:
        ValueError: the scheduler has no such schedule; the message says which it lacks.
    """
    if isinstance(scheduler, PNDMScheduler):
        return _set_pndm_timesteps(scheduler, num_inference_steps, start_timestep, device)
    if takes_timesteps(scheduler):
        last = scheduler.config.num_train_timesteps - 1
        scheduler.set_timesteps(timesteps=space_out(num_inference_steps, min(start_timestep, last)), device=device)
        scheduler.set_begin_index(0)
        return Schedule(scheduler.timesteps, scheduler.timesteps[0].item())
    steps = -(-num_inference_steps // scheduler.order)
    calls = scheduler.order * (steps - 1) + 1
    _set(scheduler, steps, start_timestep, device)
    begin = len(scheduler.timesteps) - calls
    timesteps = scheduler.timesteps[begin:]
    if begin < 0 or len(timesteps.unique()) < steps:
        raise ValueError(
            f"`num_inference_steps` is {num_inference_steps} and `start_timestep` {start_timestep}:"
            f" {type(scheduler).__name__} has no {steps} distinct timesteps there. Use fewer steps."
        )
    set_begin_index = getattr(scheduler, "set_begin_index", None)
    if set_begin_index is not None:
        set_begin_index(begin)
    if isinstance(scheduler, DDIMScheduler | DDPMScheduler):
        last = scheduler.config.num_train_timesteps - 1
        return Schedule(timesteps, scheduler.timesteps[begin - 1].item() if begin else last)
    return Schedule(timesteps, timesteps[0].item())


def takes_timesteps(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler walks over any timesteps that it is given."""
    return isinstance(scheduler, DPMSolverMultistepScheduler | EulerDiscreteScheduler) and not any(
        scheduler.config.get(name) for name in OWN_SPACINGS
    )


def space_out(count: int, start: int) -> list[int]:
    """Return `count` timesteps from `start` to 0, their square roots evenly spaced.

    The nearer to the clean face, the finer the steps: that is where details are drawn. Where neighbors would fall
    together, the earlier one gives way.

    Args:
        count: of the timesteps, 1 .. `start` + 1.
        start: the first timestep.
    """
    timesteps = [round(start * (step / (count - 1)) ** 2) for step in range(count)] if count > 1 else [start]
    for step in range(1, count):
        timesteps[step] = max(timesteps[step], timesteps[step - 1] + 1)
    return timesteps[::-1]


def timesteps_with_noise(scheduler: SchedulerMixin, levels: torch.Tensor) -> list[int]:
    """Return for each of `levels`, `[B]`, the first timestep of 1 .. T whose noise is at least so strong; T where none is.

    Args:
        scheduler: holds the cumulative alphas.
        levels: standard deviations of the noise where the clean face, in [-1,1], has the factor 1.
    """
    alphas_cumprod = scheduler.alphas_cumprod.cpu().double()
    known = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
    return torch.searchsorted(known, levels.cpu().double()).clamp(1, len(known)).tolist()


def _set(scheduler: SchedulerMixin, steps: int, start_timestep: int, device: torch.device | str | None) -> None:
    total = round(steps * scheduler.config.num_train_timesteps / start_timestep)
    scheduler.set_timesteps(total, device=device)


def _set_pndm_timesteps(
    scheduler: PNDMScheduler, num_inference_steps: int, start_timestep: int, device: torch.device | str | None
) -> Schedule:
    """Lay PNDM's warm-up, which its own list has at t = T, at the first timesteps that are run.

    Linear multistep calls the network twice at the second timestep; Runge-Kutta four times a step for three steps.
    """
    runge_kutta = not scheduler.config.skip_prk_steps
    steps = max(num_inference_steps - (9 if runge_kutta else 1), 1)
    if runge_kutta and steps < 4:
        raise ValueError(
            f"`num_inference_steps` is {num_inference_steps}; PNDM's Runge-Kutta warm-up needs at least 13. Use more,"
            " or PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)."
        )
    _set(scheduler, steps, start_timestep, device)
    warm_up, rest = np.asarray(scheduler.prk_timesteps), np.asarray(scheduler.plms_timesteps)
    kept = np.unique(np.concatenate([warm_up[::4], rest]))  # ascending, without repeats and half steps
    run = kept[:steps][::-1]
    if runge_kutta:
        half = scheduler.config.num_train_timesteps // len(kept) // 2
        stages = np.repeat(run[:4][::-1], 2) + np.tile([0, half], 4)
        scheduler.prk_timesteps = stages[:-1].repeat(2)[1:-1][::-1].copy()
        calls = [*scheduler.prk_timesteps, *run[3:]]
    else:
        calls = [*run[:2], *run[1:]] if steps > 1 else run
    timesteps = torch.tensor(np.array(calls, dtype=np.int64), device=device)
    return Schedule(timesteps, timesteps[0].item())


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
    """Return the cumulative alphas of one timestep, or of each of `[B]`, to be multiplied with images `[B,3,H,W]`."""
    return scheduler.alphas_cumprod.to(device)[timestep.long()].view(-1, 1, 1, 1)


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
    if type(scheduler) is DDIMScheduler:
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
