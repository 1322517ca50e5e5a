"""What the blocks of `modular` read and write, as diffusers wants it specified, and what they refuse."""

from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.modular_pipelines.modular_pipeline import BlockState
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, ConfigSpec, InputParam, OutputParam
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image

from ..imaging.tensors import check_dense
from ..utils.checks import check_integer
from .sampling import AUTO, SAMPLING_ARGUMENTS, Sampling, check_noise_shares, check_steps, settle
from .schedulers import check_scheduler, scheduler_named


COMPONENTS: dict[str, tuple[type, str]] = {
    "unet": (UNet2DModel, "Prior that predicts epsilon."),
    "estimator": (ModelMixin, "Answers a clean face in [0,1] for a degraded one."),
    "scheduler": (SchedulerMixin, "Variance-preserving, and able to start in the middle of the chain."),
}
CONFIGS: dict[str, tuple[Any, str]] = {  # as `DifFacePipeline` has and saves them
    "default_num_inference_steps": (100, "Used where `num_inference_steps` is None."),
    "default_start_timestep": (400, "Used where `start_timestep` is None."),
    "default_eta": (0.5, "Used where `eta` is None."),
    "default_s_noise": (1.0, "Used where `s_noise` is None."),
    "presets": ({}, "Settings that go together, by name."),
    "noise_margin": (None, "How much noise buries the estimator's disagreement with itself; None if not measured."),
}
PICTURES = Image.Image | np.ndarray | torch.Tensor | list
VALUES: dict[str, tuple[Any, str]] = {
    "image": (
        PICTURES,
        "Aligned faces: PIL image, array [H,W,3] or [N,H,W,3], tensor [3,H,W] or [N,3,H,W], or a list of these; RGB,"
        " uint8 or float in [0,1], of any size.",
    ),
    "num_inference_steps": (int, "Network calls K, 1 .. N."),
    "start_timestep": (int | str, "N, where the chain begins, 1 .. 1000, or 'auto'."),
    "eta": (float, "Share of fresh noise in each step, 0 .. 1; for DDIM."),
    "s_noise": (float, "Factor on the noise of x_N, above 0 and at most 2."),
    "scheduler": (str, "Kind of the scheduler in this call alone, such as ddim or unipc."),
    "preset": (str, "Name of saved settings; those that are given come before it."),
    "num_samples": (int, "Restorations per face."),
    "generator": (torch.Generator | list, "Source of all noise, one or one per restoration."),
    "estimate": (torch.Tensor, "Estimates, [N,3,S,S] float in [0,1]."),
    "starts": (list, "N of each estimate, integers; read where `start_timestep` is 'auto'."),
    "sizes": (list, "Height and width of each face as it was given, pixels; None is the model's."),
    "latents": (torch.Tensor, "States of the chain, x_N before and x_0 after it, [N*num_samples,3,S,S] float."),
    "output_type": (str, "'pil', 'np', 'pt' or 'latent', see `DifFacePipeline`."),
    "images": (PICTURES, "Restored faces, the samples of each next to each other, in the form of `output_type`."),
    "estimates": (PICTURES, "What the estimator alone answered, in the same form; None without `estimate`."),
}
DEFAULT_VALUES = {"num_samples": 1, "output_type": "pil"}
SETTINGS = (*SAMPLING_ARGUMENTS, "preset")  # settled together, so that each block refuses a wrong one before it works


def first_line(docstring: str | None) -> str:
    """Return the first line of a docstring, which Python leaves out if it is told to."""
    return (docstring or "").partition("\n")[0]


def specify_components(names: tuple[str, ...]) -> list[ComponentSpec]:
    """Return specifications of components."""
    return [ComponentSpec(name, *COMPONENTS[name], subfolder=name) for name in names]


def specify_configs() -> list[ConfigSpec]:
    """Return specifications of the saved settings."""
    return [ConfigSpec(name, *CONFIGS[name]) for name in CONFIGS]


def specify_inputs(required: tuple[str, ...], optional: tuple[str, ...]) -> list[InputParam]:
    """Return specifications of inputs."""
    return [
        InputParam(name, VALUES[name][0], DEFAULT_VALUES.get(name), name in required, VALUES[name][1])
        for name in (*required, *optional)
    ]


def specify_outputs(names: tuple[str, ...]) -> list[OutputParam]:
    """Return specifications of outputs."""
    return [OutputParam(name, *VALUES[name]) for name in names]


def loaded(components: Any, name: str) -> Any:
    """Return a component of a modular pipeline.

    Raises:
        ValueError: there is none yet.
    """
    component = getattr(components, name)
    if component is None:
        raise ValueError(f"`{name}` is missing; call `load_components()`, or `update_components({name}=...)`.")
    return component


def settle_call(
    components: Any, block_state: BlockState, can_choose_starts: bool = True
) -> tuple[Sampling, SchedulerMixin]:
    """Return how the chains of a call are run, and the scheduler that they are made of.

    Raises:
        ValueError: no chain can be run so; the message names the argument.
    """
    own = loaded(components, "scheduler")
    sampling = settle(
        components.config, block_state.preset, **{name: block_state[name] for name in SAMPLING_ARGUMENTS}
    )
    scheduler = scheduler_named(own, sampling.scheduler)
    check_scheduler(scheduler)
    check_steps(sampling, scheduler.config.num_train_timesteps, can_choose_starts, has_latents=False)
    check_noise_shares(eta=sampling.eta, s_noise=sampling.s_noise)
    return sampling, scheduler


def starts_of_rows(
    scheduler: SchedulerMixin, sampling: Sampling, starts: list[int] | None, num_rows: int, num_samples: int
) -> list[int]:
    """Return N of each row of a batch.

    Args:
        scheduler: of the chains.
        sampling: how they are run.
        starts: N of each face, read where that is "auto".
        num_rows: of the batch.
        num_samples: rows of each face.

    Raises:
        ValueError: the start is "auto", and `starts` are missing, not one for each face, or out of range.
    """
    count = count_faces(num_rows, num_samples)
    if sampling.start_timestep != AUTO:
        return [int(sampling.start_timestep)] * num_rows
    if starts is None:
        raise ValueError(
            "`start_timestep` is 'auto', and `starts`, which the block that estimates makes of it, is missing; give a number."
        )
    check_length("starts", starts, count)
    for start in starts:
        check_integer("starts", start, sampling.num_inference_steps, scheduler.config.num_train_timesteps)
    return [int(start) for start in starts for _ in range(num_samples)]


def count_faces(num_rows: int, num_samples: int) -> int:
    """Return how many faces the rows of a batch belong to."""
    check_integer("num_samples", num_samples, 1, None)
    if num_rows % num_samples:
        raise ValueError(f"`latents` has {num_rows} rows; it must have {num_samples} (`num_samples`) for each face.")
    return num_rows // num_samples


def check_length(name: str, values: Any, count: int) -> None:
    """Raise a `ValueError` unless there is one of `values` for each face."""
    if len(values) != count:
        raise ValueError(f"`{name}` is of {len(values)} faces; it must be of the {count} that are restored.")


def check_batch(name: str, faces: Any) -> None:
    """Raise unless `faces` is a float tensor `[N,3,S,S]`.

    Raises:
        TypeError: it is no tensor, or not a dense one.
        ValueError: it is of another shape or dtype.
    """
    if not isinstance(faces, torch.Tensor):
        raise TypeError(f"`{name}` is a {type(faces).__name__}; it must be a tensor.")
    check_dense(faces, name)
    if faces.ndim != 4 or faces.shape[1] != 3 or not faces.is_floating_point():
        raise ValueError(f"`{name}` is {faces.dtype} {list(faces.shape)}; it must be float [N,3,S,S].")
