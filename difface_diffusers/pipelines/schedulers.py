"""Which schedulers there are for a chain that begins in the middle, and what is particular to each."""

import inspect
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_parallel import DDIMParallelScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm_parallel import DDPMParallelScheduler
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import KDPM2AncestralDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_discrete import KDPM2DiscreteScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_sasolver import SASolverScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..utils.choices import SCHEDULERS


OF_ONE_KIND = ("algorithm_type", "solver_type")  # options of one name whose values mean nothing to other kinds

DDIM, DDPM = (DDIMScheduler, DDIMParallelScheduler), (DDPMScheduler, DDPMParallelScheduler)
TAKES_ETA = DDIM
LEARNS_VARIANCE = DDPM
ONE_STEP_ABOVE = DDIM + DDPM  # x_N is noised one kept step above the first call, as in the original
WALKS_OVER_ALPHAS = (*DDIM, *DDPM, PNDMScheduler)  # from entry to entry of `alphas_cumprod`, all equally far apart
FINER_AT_THE_END = DPMSolverMultistepScheduler, EulerDiscreteScheduler
TAKES_ITS_LEVELS = (  # walks over the noise levels that it is left, the lowest included, and then to none
    *FINER_AT_THE_END,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    UniPCMultistepScheduler,
)
WALKS_OVER_SIGMAS = (
    *TAKES_ITS_LEVELS,
    DEISMultistepScheduler,  # ends at the lowest level
    SASolverScheduler,  # ends at the lowest level
    KDPM2AncestralDiscreteScheduler,  # finds levels between
    KDPM2DiscreteScheduler,  # finds levels between
)

# All that a chain needs, and what `step` is given.
REQUIRED = ("set_timesteps", "add_noise", "step", "order", "alphas_cumprod")
STEP_INPUTS = ("model_output", "timestep", "sample")
REFUSED = {  # though they have all of it
    "LCMScheduler": "is made for networks that were distilled to jump to the clean face",
    "TCDScheduler": "is made for networks that were distilled to jump towards the clean face",
    "DPMSolverMultistepInverseScheduler": "walks from the clean face to noise",
    "DPMSolverSDEScheduler": "draws its noise from a seed of its own, not from `generator`",
}

# What an option must be, and why.
OPTIONS: dict[str, tuple[Any, str]] = {
    "prediction_type": ("epsilon", "the prior answers epsilon"),
    "use_flow_sigmas": (False, "those are the noise levels of flow matching, which the prior does not know"),
    "use_dynamic_shifting": (False, "those are the noise levels of flow matching, which the prior does not know"),
    "shift_terminal": (None, "those are the noise levels of flow matching, which the prior does not know"),
    "interpolation_type": ("linear", "its timesteps then do not belong to its noise levels"),
    "timestep_type": ("discrete", "the prior knows the timesteps of its training alone"),
    "sigma_min": (None, "the chain ends at the clean face"),
    "sigma_max": (None, "the chain begins at `start_timestep`"),
    "solver_p": (None, "two schedulers would have to begin together"),
}

# What options must not be together, with which of them it would go, and what goes wrong.
COMBINATIONS: tuple[tuple[type | tuple[type, ...], dict[str, Any], dict[str, Any], str], ...] = (
    *(
        (
            UniPCMultistepScheduler,
            {"final_sigmas_type": "zero"} | option,
            {"final_sigmas_type": "sigma_min"},
            "dividing by the last noise level, 0, leaves no number",
        )
        for option in ({"predict_x0": False}, {"solver_type": "bh1"}, {"lower_order_final": False})
    ),
    *(
        (
            DPMSolverMultistepScheduler,
            {"algorithm_type": algorithm, "solver_order": 3},
            {"solver_order": 2},
            "it adds too much noise",
        )
        for algorithm in ("sde-dpmsolver++", "sde-dpmsolver")
    ),
    (DDPM, {"variance_type": "fixed_large_log"}, {"variance_type": "fixed_large"}, "it takes the root of a logarithm"),
)


def another_scheduler(scheduler: SchedulerMixin, name: str) -> SchedulerMixin:
    """Return a new scheduler of a kind in `SCHEDULERS`, of the same config but for what is of one kind alone."""
    kind, config = getattr(diffusers, SCHEDULERS[name]), dict(scheduler.config)
    if kind is not type(scheduler):
        config = {option: value for option, value in config.items() if option not in OF_ONE_KIND}
    return kind.from_config(config)


def scheduler_named(scheduler: SchedulerMixin, name: str | None) -> SchedulerMixin:
    """Return the scheduler itself, or where a kind is named, one like it of that kind.

    Raises:
        ValueError: there is no such kind.
    """
    check_scheduler_name("scheduler", name)
    return scheduler if name is None else another_scheduler(scheduler, name)


def check_scheduler_name(argument: str, name: object) -> None:
    """Raise a `ValueError` that names the argument, unless it is `None` or one of `SCHEDULERS`."""
    if name is not None and (not isinstance(name, str) or name not in SCHEDULERS):
        raise ValueError(f"`{argument}` is {name!r}; it must be one of {', '.join(SCHEDULERS)}.")


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Raise a `ValueError` unless the scheduler can walk back from the middle of the chain to a clean face."""
    if not isinstance(scheduler, WALKS_OVER_ALPHAS + WALKS_OVER_SIGMAS):
        raise ValueError(
            f"`scheduler` is a {type(scheduler).__name__}, which cannot start in the middle of the chain: it"
            f" {', '.join(_obstacles(scheduler))}. Use DDIMScheduler, DPMSolverMultistepScheduler or another one that"
            " docs/schedulers.md lists."
        )
    for option, (accepted, reason) in OPTIONS.items():
        if (value := scheduler.config.get(option, accepted)) != accepted:
            raise ValueError(f"`scheduler` has `{option}` {value!r}: {reason}, so it must be {accepted!r}.")
    for kind, options, instead, reason in COMBINATIONS:
        if isinstance(scheduler, kind) and all(scheduler.config.get(name) == value for name, value in options.items()):
            raise ValueError(f"`scheduler` has {_listed(options)}: {reason}. It would go with {_listed(instead)}.")


def wants_variance(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler reads the three channels in which a prior answers its variance."""
    return isinstance(scheduler, LEARNS_VARIANCE) and scheduler.config.variance_type in ("learned", "learned_range")


def _obstacles(scheduler: SchedulerMixin) -> list[str]:
    """Return why a scheduler is none of those above, for the end of a sentence."""
    if type(scheduler).__name__ in REFUSED:
        return [REFUSED[type(scheduler).__name__]]
    return (
        [f"lacks {attribute}" for attribute in REQUIRED if not hasattr(scheduler, attribute)]
        or [
            f"needs {parameter.name} in each step"
            for parameter in inspect.signature(scheduler.step).parameters.values()
            if parameter.default is parameter.empty and parameter.name not in STEP_INPUTS
        ]
        or ["is not known to do so"]
    )


def _listed(options: dict[str, Any]) -> str:
    return " and ".join(f"`{name}` {value!r}" for name, value in options.items())
