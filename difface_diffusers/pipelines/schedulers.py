"""The schedulers that people choose by a short name."""

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin


SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm-multistep": "DPMSolverMultistepScheduler",
    "dpm-singlestep": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "deis": "DEISMultistepScheduler",
    "pndm": "PNDMScheduler",
}


def another_scheduler(scheduler: SchedulerMixin, name: str | None) -> SchedulerMixin:
    """Return a new scheduler of the same config: of a kind in `SCHEDULERS`, or of its own kind if `name` is `None` or empty."""
    kind = getattr(diffusers, SCHEDULERS[name]) if name else type(scheduler)
    return kind.from_config(scheduler.config)
