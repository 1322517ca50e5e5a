"""Which timesteps the prior runs from N down, and at which level x_N is noised."""

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from .schedulers import FINER_AT_THE_END, ONE_STEP_ABOVE, TAKES_ITS_LEVELS, WALKS_OVER_ALPHAS


OWN_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


@dataclass(frozen=True)
class Schedule:
    """The reverse chain from x_N.

    Attributes:
        scheduler: walks it, and nothing else.
        timesteps: `[calls]`, the timestep of every network call, in order, on the prior's own scale.
        noise_timestep: the noise level of x_N, on that scale.
        own_timesteps: what `scheduler` calls `timesteps`.
        own_noise_timestep: what it calls `noise_timestep`.
    """

    scheduler: SchedulerMixin
    timesteps: torch.Tensor
    noise_timestep: float
    own_timesteps: torch.Tensor
    own_noise_timestep: float


def plan(scheduler: SchedulerMixin, num_inference_steps: int, start_timestep: int) -> Schedule:
    """Plan K network calls from N down, whatever the spacing and the noise levels that the scheduler is configured for.

    The chain is the whole chain of a scheduler that knows no other timesteps than those up to N. Most are left the K that
    are run, spaced as configured, so that every step is right, however far apart they are: DDIM with K = 100 and N = 400
    calls the network at t = 396 down to 0. DPM-Solver++ and Euler run those of `space_out`. A scheduler that chooses noise
    levels of its own, as Karras' are, is left all of them.

    DDIM and DDPM with the spacing "leading" take x_N one kept step above the first call (t = 400), as the original DifFace
    does; all else takes it at the first call's own level. Schedulers that call the network twice a step (Heun) run K calls
    if K is odd, K - 1 if it is even.

    Args:
        scheduler: one that passes `check_scheduler`; it stays as it is.
        num_inference_steps: K, 1 .. N.
        start_timestep: N, 1 .. T, T being the training timesteps of the scheduler.

    Raises:
        ValueError: the scheduler has no such chain; the message says why.
    """
    config = scheduler.config
    last = config.num_train_timesteps - 1
    if config.get("rescale_betas_zero_snr") and start_timestep >= last:
        raise ValueError(
            f"`start_timestep` is {start_timestep}, where `scheduler` (`rescale_betas_zero_snr`) leaves nothing but noise, in"
            f" which the prior sees no face. Start at {last - 1} or lower."
        )
    if isinstance(scheduler, PNDMScheduler):
        return _plan_pndm(scheduler, num_inference_steps, start_timestep)
    if isinstance(scheduler, WALKS_OVER_ALPHAS):
        return _plan_over_alphas(scheduler, num_inference_steps, start_timestep)
    return _plan_over_sigmas(scheduler, num_inference_steps, min(start_timestep, last))


def _plan_over_alphas(scheduler: SchedulerMixin, steps: int, start_timestep: int, entries_a_step: int = 1) -> Schedule:
    """Plan the chain of a scheduler that steps over the cumulative alphas, some entries at a time, all equally far apart."""
    spacing, last = scheduler.config.timestep_spacing, scheduler.config.num_train_timesteps - 1
    count = steps * entries_a_step
    leading = spacing == "leading" and count > 1  # N itself stands for the state that is noised
    if leading:
        offset = scheduler.config.steps_offset
        kept = [min(math.ceil(step * start_timestep / count) + offset, last) for step in range(count)]
    else:
        kept = _space_evenly(spacing, count, min(start_timestep, last))
    levels = list(kept)
    if above := leading and isinstance(scheduler, ONE_STEP_ABOVE):
        levels.append(min(start_timestep + offset, last))
    own = _keep(scheduler, levels, num_train_timesteps=count, timestep_spacing="leading", steps_offset=0)
    own.set_timesteps(steps)
    own_noise_timestep = count if above else own.timesteps[0].item()
    return Schedule(
        own, torch.tensor(kept)[own.timesteps], levels[own_noise_timestep], own.timesteps, own_noise_timestep
    )


def _plan_pndm(scheduler: PNDMScheduler, num_inference_steps: int, start_timestep: int) -> Schedule:
    """Plan PNDM's warm-up with the rest.

    Linear multistep calls the network twice at the second timestep; Runge-Kutta four times a step for three steps, also
    half-way between two timesteps.
    """
    if scheduler.config.skip_prk_steps:
        return _plan_over_alphas(scheduler, max(num_inference_steps - 1, 1), start_timestep)
    if num_inference_steps < 13:
        raise ValueError(
            f"`num_inference_steps` is {num_inference_steps}; PNDM's Runge-Kutta warm-up needs at least 13. Use more,"
            " or PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)."
        )
    return _plan_over_alphas(scheduler, num_inference_steps - 9, start_timestep, entries_a_step=2)


def _plan_over_sigmas(scheduler: SchedulerMixin, num_inference_steps: int, top: int) -> Schedule:
    """Plan the chain of a scheduler that walks over noise levels, however far apart."""
    steps = -(-num_inference_steps // scheduler.order)
    spacing = scheduler.config.get("timestep_spacing", "linspace")
    if isinstance(scheduler, TAKES_ITS_LEVELS) and not _has_levels_of_its_own(scheduler):
        finer = isinstance(scheduler, FINER_AT_THE_END)
        kept = space_out(steps, top)[::-1] if finer else _space_evenly(spacing, steps, top)
        own = _keep(scheduler, kept, num_train_timesteps=steps, timestep_spacing="trailing")
        if "timesteps" in inspect.signature(own.set_timesteps).parameters:
            own.set_timesteps(timesteps=list(range(steps))[::-1])
        else:
            own.set_timesteps(steps)
        timesteps = torch.tensor(kept)[own.timesteps.long()]
    else:
        # "leading" would begin the lower the more steps there are, "linspace" would take 0 for the only timestep.
        spacing = "trailing" if steps == 1 else "linspace" if spacing == "leading" else spacing
        own = _keep(scheduler, range(top + 1), num_train_timesteps=top + 1, timestep_spacing=spacing)
        own.set_timesteps(steps)
        timesteps = own.timesteps
    own.set_begin_index(0)
    first = timesteps[0].item()
    if len(own.sigmas[:-1].unique()) < steps:
        raise ValueError(
            f"`num_inference_steps` is {num_inference_steps} and `start_timestep` {top}: {type(scheduler).__name__} has no"
            f" {steps} distinct timesteps there. Use fewer steps."
        )
    if round(first) < top:
        raise ValueError(
            f"`start_timestep` is {top}, but `scheduler`, with its `lambda_min_clipped`, begins at {first:g}. Start there,"
            " or leave `lambda_min_clipped` out."
        )
    return Schedule(own, timesteps, first, own.timesteps, own.timesteps[0].item())


def _has_levels_of_its_own(scheduler: SchedulerMixin) -> bool:
    return scheduler.config.get("final_sigmas_type") == "sigma_min" or any(map(scheduler.config.get, OWN_SPACINGS))


def _keep(scheduler: SchedulerMixin, timesteps: Sequence[int], **config: Any) -> Any:
    """Return a copy of a scheduler that knows some of its timesteps alone, the lowest first, and has another config."""
    own = cast(Any, copy.deepcopy(scheduler))
    for levels in ("alphas_cumprod", "lambda_t"):
        if hasattr(own, levels):
            setattr(own, levels, getattr(own, levels)[list(timesteps)])
    own.register_to_config(**{name: value for name, value in config.items() if name in scheduler.config})
    return own


def _space_evenly(spacing: str, count: int, top: int) -> list[int]:
    """Return `count` timesteps up to `top`, ascending: "trailing" ends as far from 0 as they are from each other."""
    if spacing == "trailing":
        return [round((step + 1) * (top + 1) / count) - 1 for step in range(count)]
    return [round(step * top / (count - 1)) for step in range(count)] if count > 1 else [top]


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
