"""The controls of how a face is sampled, in words for people who have never heard of diffusion."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import gradio as gr
import torch
from gradio.components import Component

from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.sampling import AUTO
from ..utils.choices import SCHEDULERS


MAX_STEPS = 250
S_NOISE_RANGE = 0.9, 1.2
MAX_SAMPLES = 6
SEEDS = 2**31
BACKGROUNDS = [
    ("a little sharper", "bundled"),
    ("smoothly", "lanczos"),
    ("by Real-ESRGAN, fetched once", "realesr-general-x4v3"),
    ("pixel by pixel", "none"),
]
KEEP_GRAY = [("gray and sepia stay so", "auto"), ("as in the picture", "on"), ("as the model paints", "off")]
BY_DAMAGE = 0  # in the place of a start timestep: each face has one of its own


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        start: see `DifFacePipeline.__call__`, as are the next three; `BY_DAMAGE` for "auto".
        eta: see there.
        s_noise: see there.
        steps: see there.
        scheduler: a name of `SCHEDULERS`, empty for that of the model.
        seed: of the noise.
    """

    start: int
    eta: float
    s_noise: float
    steps: int
    scheduler: str
    seed: int

    @property
    def generator(self) -> torch.Generator:
        """A new source of noise."""
        return torch.Generator().manual_seed(int(self.seed))

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of a pipeline's call."""
        return {
            "num_inference_steps": int(self.steps),
            "start_timestep": AUTO if self.start == BY_DAMAGE else int(self.start),
            "eta": self.eta,
            "s_noise": self.s_noise,
            "scheduler": self.scheduler or None,
        }


@dataclass(frozen=True)
class Controls:
    """The components for `Settings`, under the names of its attributes, and whether each run draws a new seed."""

    start: Component
    eta: Component
    s_noise: Component
    steps: Component
    scheduler: Component
    seed: Component
    randomize: Component

    @property
    def settings(self) -> list[Component]:
        """The components in the order of `Settings`."""
        return [getattr(self, field.name) for field in fields(Settings)]


def add_controls(pipe: DifFacePipeline) -> Controls:
    """Add the controls to the layout; they begin at the defaults of the model, and its presets move them."""
    defaults = pipe.with_defaults()
    preset = gr.Radio(
        [f"{name}: {pipe.with_defaults(name).num_inference_steps} steps" for name in pipe.config.presets],
        type="index",
        label="Speed or quality",
        info="Sets all that is below at once.",
        visible=bool(pipe.config.presets),
    )
    with gr.Group():
        start = gr.Slider(
            BY_DAMAGE if pipe.can_choose_starts else 1,
            pipe.scheduler.config.num_train_timesteps,
            slider_value(defaults.start_timestep),
            step=1,
            label="Fidelity: how much may be repainted",
            info="Low stays close to the picture. High repairs worse damage, but the person changes more."
            + (" At 0 it is found for each face by its damage." if pipe.can_choose_starts else ""),
        )
        eta = gr.Slider(
            0,
            1,
            defaults.eta,
            step=0.05,
            label="Fidelity: how much is left to chance",
            info="0 takes the likeliest way, 1 strays most and draws more texture. Only the method ddim heeds it.",
        )
        s_noise = gr.Slider(
            *S_NOISE_RANGE,
            defaults.s_noise,
            step=0.01,
            label="Texture",
            info="Above 1 draws more of skin and hair, and adds grain. Below 1 is softer.",
        )
    steps = gr.Slider(
        1,
        MAX_STEPS,
        defaults.num_inference_steps,
        step=1,
        label="Steps",
        info="In how many steps the face is drawn. More take longer, and help only up to a point.",
    )
    scheduler = gr.Dropdown(
        [("the model's own", ""), *SCHEDULERS],
        value="",
        label="Method",
        info="The recipe by which the steps are taken; for the curious.",
    )
    with gr.Row():
        seed = gr.Number(
            0,
            precision=0,
            minimum=0,
            maximum=SEEDS - 1,
            label="Seed",
            info="The same number gives the same picture again.",
        )
        randomize = gr.Checkbox(False, label="New seed for every run")

    def values_of(index: int) -> tuple[float | str, ...]:
        sampling = pipe.with_defaults(list(pipe.config.presets)[index])
        return (
            slider_value(sampling.start_timestep),
            sampling.eta,
            sampling.s_noise,
            sampling.num_inference_steps,
            sampling.scheduler or "",
        )

    preset.input(
        values_of,
        preset,
        [start, eta, s_noise, steps, scheduler],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return Controls(start, eta, s_noise, steps, scheduler, seed, randomize)


def add_change_controls(pipe: DifFacePipeline) -> tuple[Component, Component, Component]:
    """Add how the rest is enlarged, what becomes of gray faces and of clean ones to the layout; return all three."""
    return (
        gr.Radio(BACKGROUNDS, value="bundled", label="How the rest is enlarged"),
        gr.Radio(KEEP_GRAY, value="auto", label="Colors of the faces"),
        gr.Checkbox(
            True,
            label="Spare what is good",
            info="Clean faces stay as they are, others change as far as they are damaged.",
            visible=pipe.config.get("clean_damage") is not None,
        ),
    )


def slider_value(start_timestep: int | str) -> int:
    """Return where the slider stands for a start timestep or "auto"."""
    return BY_DAMAGE if start_timestep == AUTO else int(start_timestep)


def settings_of(values: Sequence[Any], randomize: bool) -> Settings:
    """Return what the controls say, in the order of `Settings`; with another seed if that is wanted."""
    settings = Settings(*values)
    return replace(settings, seed=next_seed(settings.seed, randomize))


def next_seed(seed: int, randomize: bool) -> int:
    """Return the seed of the next run: a random one, or the one that is set."""
    return random.randrange(SEEDS) if randomize else int(seed)
