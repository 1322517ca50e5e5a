"""How a chain is run: the settings of a call, and which of them can be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from ..imaging.tensors import check_dense
from ..utils.checks import check_integer, is_number
from .chains import Generators
from .generators import check_generator_type
from .schedulers import check_scheduler_name


AUTO = "auto"

Callback = Callable[..., dict] | PipelineCallback | MultiPipelineCallbacks


@dataclass(frozen=True)
class Sampling:
    """How a chain is run; see `DifFacePipeline.__call__`.

    Attributes:
        num_inference_steps: network calls K.
        start_timestep: N, or "auto".
        eta: share of fresh noise in each step.
        s_noise: factor on the noise of x_N.
        scheduler: a name of `SCHEDULERS`; `None` is the pipeline's own.
    """

    num_inference_steps: int
    start_timestep: int | str
    eta: float
    s_noise: float
    scheduler: str | None = None


@dataclass(frozen=True)
class Request:
    """What the chains of a call need to know; see `DifFacePipeline.__call__`.

    Attributes:
        sampling: how they are run.
        generator: one per row, or `None`.
        latents: a ready x_N, or `None`.
        callback_on_step_end: called after each step.
        callback_on_step_end_tensor_inputs: what it gets.
    """

    sampling: Sampling
    generator: Generators
    latents: torch.Tensor | None
    callback_on_step_end: Callback | None
    callback_on_step_end_tensor_inputs: list[str]


SAMPLING_ARGUMENTS = tuple(entry.name for entry in fields(Sampling))
DEFAULTS = SAMPLING_ARGUMENTS[:-1]  # saved with a pipeline, as its scheduler is


def settle(config: Mapping[str, Any], preset: str | None = None, **arguments: float | str | None) -> Sampling:
    """Return the arguments of `Sampling`; those that are `None` or missing as a preset has them, or the defaults.

    Args:
        config: of a pipeline: `presets`, and its defaults as `default_...`.
        preset: name of one of those.
        **arguments: what a call was given.

    Raises:
        ValueError: there is no such preset.
    """
    presets = config["presets"] or {}
    if preset is not None and (not isinstance(preset, str) or preset not in presets):
        known = f"it must be one of {', '.join(presets)}" if presets else "this pipeline has none"
        raise ValueError(f"`preset` is {preset!r}; {known}.")
    settings = {name: config[f"default_{name}"] for name in DEFAULTS}
    settings |= presets[preset] if preset is not None else {}
    settings |= {name: value for name, value in arguments.items() if value is not None}
    return Sampling(**settings)


def check_noise_shares(prefix: str = "", **settings: Any) -> None:
    """Raise `ValueError` for an eta or s_noise among settings that no chain can have; `prefix` is of their names."""
    eta, s_noise = settings.get("eta", 0), settings.get("s_noise", 1)
    if not is_number(eta) or not 0 <= eta <= 1:
        raise ValueError(f"`{prefix}eta` is {eta!r}; it must be a number within 0 .. 1.")
    if not is_number(s_noise) or not 0 < s_noise <= 2:
        raise ValueError(f"`{prefix}s_noise` is {s_noise!r}; it must be a number above 0 and at most 2.")


def check_settings(prefix: str = "", **settings: Any) -> None:
    """Raise `ValueError` for settings of `Sampling` that no scheduler can run; `prefix` is of their names."""
    check_noise_shares(prefix, **settings)
    check_integer(f"{prefix}num_inference_steps", settings.get("num_inference_steps", 1), 1, None)
    start = settings.get("start_timestep", 1)
    if start != AUTO:
        check_integer(f"{prefix}start_timestep", start, 1, None)
    check_scheduler_name(f"{prefix}scheduler", settings.get("scheduler"))


def to_saveable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which NumPy's numbers are Python's, as a config is to be saved."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def check_steps(sampling: Sampling, num_train_timesteps: int, can_choose_starts: bool, has_latents: bool) -> None:
    """Raise `ValueError` unless a chain of these settings can be run.

    Args:
        sampling: the settings.
        num_train_timesteps: of the scheduler, T.
        can_choose_starts: whether the start may be "auto".
        has_latents: whether x_N is given.
    """
    start = sampling.start_timestep
    if isinstance(start, str) and start != AUTO:
        raise ValueError(f"`start_timestep` is {start!r}; it must be an integer or 'auto'.")
    if start != AUTO:
        check_integer("start_timestep", start, 1, num_train_timesteps)
        check_integer("num_inference_steps", sampling.num_inference_steps, 1, start, "`start_timestep`")
        return
    check_integer("num_inference_steps", sampling.num_inference_steps, 1, num_train_timesteps)
    if not can_choose_starts:
        raise ValueError("`start_timestep` is 'auto', for which this pipeline has no `noise_margin`; give a number.")
    if has_latents:
        raise ValueError("`start_timestep` is 'auto' and `latents` were given; a number must say how noisy they are.")


def check_noise(
    generator: torch.Generator | list[torch.Generator] | None, latents: torch.Tensor | None, shape: Sequence[int]
) -> None:
    """Raise unless there is one source of noise, or none, that fits the shape of x_N, `[B,3,S,S]`.

    Raises:
        TypeError: `generator` or `latents` is of the wrong type.
        ValueError: they do not fit, or both are given.
    """
    check_generator_type(generator)
    if isinstance(generator, list) and len(generator) != shape[0]:
        raise ValueError(
            f"`generator` is a list of {len(generator)}; it must have one entry per output image, {shape[0]}."
        )
    if latents is None:
        return
    if generator is not None:
        raise ValueError("`latents` and `generator` were both given; a ready x_N leaves nothing to draw. Give one.")
    if not isinstance(latents, torch.Tensor):
        raise TypeError(f"`latents` is a {type(latents).__name__}; it must be a tensor.")
    check_dense(latents, "latents")
    if list(latents.shape) != list(shape) or not latents.is_floating_point():
        raise ValueError(f"`latents` is {latents.dtype} {list(latents.shape)}; it must be float {list(shape)}.")
    if not latents.float().isfinite().all():
        raise ValueError("`latents` has NaN or infinite values; all must be finite.")
