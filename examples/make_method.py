"""Draw how a face is restored: the figure `method.png`, from the example face and the bundled model.

    python -m examples.make_method

matplotlib is needed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from PIL import Image

from benchmarks.models import add_model_option, load_pipeline
from difface_diffusers import DifFacePipeline
from difface_diffusers.imaging.tensors import pil_to_tensor, resize


FOLDER = Path(__file__).parent
START = 400  # the paper's, where the noise can be seen; the bundled model's own starts are lower
CALLS = 24  # a fine chain, so that the curve has no corners
SEED = 0
SHOWN = (0.6, 0.25)  # of the start: where on its way back the chain is shown


def walk(pipe: DifFacePipeline, guess: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
    """Return t and x_t, `[1,3,S,S]`, from x_N to x_0; the noise that buries the guess, `[1,3,S,S]` in [0,1], is one for all."""
    states: list[tuple[float, torch.Tensor]] = []

    def keep(
        pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        states.append((float(timestep), tensors["latents"]))
        return {}

    abar = pipe.scheduler.alphas_cumprod[START - 1]
    noise = torch.randn(guess.shape, generator=torch.Generator().manual_seed(SEED))
    latents = abar.sqrt() * (2 * guess - 1) + (1 - abar).sqrt() * noise
    states.append((float(START), latents))
    pipe(guess, CALLS, START, latents=latents, callback_on_step_end=keep, output_type="latent")
    times = [time for time, _ in states[2:]] + [0.0]  # a state belongs to the next call's timestep
    return [states[0], *((time, state) for time, (_, state) in zip(times, states[1:], strict=True))]


def draw(pipe: DifFacePipeline, degraded: Image.Image, clean: Image.Image) -> plt.Figure:
    """Draw the stages in a row, and beside them how much of the guess's error is left along the chain."""
    size = pipe.model_size
    image, truth = (resize(pil_to_tensor(picture)[None], size).clamp(0, 1) for picture in (degraded, clean))
    with torch.no_grad():
        guess, _ = pipe.prepare_estimates(image, pipe.with_defaults(start_timestep=START))
        states, true_states = walk(pipe, guess), walk(pipe, truth)

    at = {share: min(states, key=lambda state, time=share * START: abs(state[0] - time)) for share in SHOWN}
    panels = [
        ("degraded face", image),
        ("the estimator's guess", guess),
        (f"noised to t = {START}", states[0][1] / 2 + 0.5),
        *((f"t = {time:.0f}", state / 2 + 0.5) for time, state in at.values()),
        ("restored face", states[-1][1] / 2 + 0.5),
    ]
    figure, axes = plt.subplots(
        1, len(panels) + 1, figsize=(1.75 * len(panels) + 3.0, 2.2), width_ratios=[*[1] * len(panels), 1.25]
    )
    for axis, (title, picture) in zip(axes, panels, strict=False):
        axis.imshow(picture[0].clamp(0, 1).permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=11)
        axis.axis("off")

    error = 2 * (guess - truth).square().mean().sqrt()
    left = [
        ((state - other).square().mean().sqrt() / error).item()
        for (_, state), (_, other) in zip(states, true_states, strict=True)
    ]
    axes[-1].plot([time for time, _ in states], left, color="tab:red")
    axes[-1].set(xlim=(START, 0), ylim=(0, 1.02), xlabel="t")
    axes[-1].set_title("error that is left", fontsize=11)
    axes[-1].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figure."""
    parser = argparse.ArgumentParser(prog="python -m examples.make_method", description="Draw how a face is restored.")
    add_model_option(parser)
    parser.add_argument(
        "--output", type=Path, default=FOLDER / "method.png", help="default: method.png beside this script"
    )
    args = parser.parse_args(argv)
    pipe = load_pipeline(args.model, DifFacePipeline)
    figure = draw(pipe, Image.open(FOLDER / "astronaut.png"), Image.open(FOLDER / "astronaut_clean.png"))
    figure.savefig(args.output, dpi=110)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
