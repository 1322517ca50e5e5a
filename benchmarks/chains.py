"""How near K network calls of each scheduler end to where the chain ends that takes every timestep.

    python -m benchmarks.chains --data FOLDER_OF_CLEAN_FACES --output FOLDER [--start N]

Clean aligned faces are brought to the model's size, degraded blindly over the training range, and noised alike to x_N; each
scheduler walks back from there. The fine chain is that of DDIM with eta 0, unclipped, in N calls. Schedulers that draw noise
cannot end where it does: they are to be held against DDPM in N calls, which draws the noise of the exact chain. Written to
OUTPUT: `chains.md` and `chains.json`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import psnr

from .faces import add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore, with_parts
from .models import load_pipeline
from .reports import FaceReport, circumstances


START = 400
CALLS = (6, 8, 12, 20, 40)
PLAIN = {"clip_sample": False, "skip_prk_steps": True}  # for the schedulers that have such options
OWN = {"SASolverScheduler": {"algorithm_type": "data_prediction"}}  # it knows no other scheduler's
SCHEDULERS = {
    "DDIMScheduler": False,  # whether it draws noise
    "DEISMultistepScheduler": False,
    "DPMSolverMultistepScheduler": False,
    "DPMSolverSinglestepScheduler": False,
    "EulerDiscreteScheduler": False,
    "HeunDiscreteScheduler": False,
    "KDPM2DiscreteScheduler": False,
    "LMSDiscreteScheduler": False,
    "PNDMScheduler": False,
    "UniPCMultistepScheduler": False,
    "DDPMScheduler": True,
    "EulerAncestralDiscreteScheduler": True,
    "KDPM2AncestralDiscreteScheduler": True,
    "SASolverScheduler": True,
}


@dataclass(frozen=True)
class ChainsReport(FaceReport):
    """Figures of one run, as they are written to `chains.json`; all are the mean PSNR to the fine chain's faces, dB.

    Attributes:
        start: Timestep of x_N.
        fine_ddpm: Of DDPM in as many calls.
        rows: By scheduler and number of calls.
    """

    start: int
    fine_ddpm: float
    rows: dict[str, dict[int, float]]

    def markdown(self) -> str:
        """Return the tables, with and without fresh noise, and the line that says what they were measured on."""
        columns = list(next(iter(self.rows.values())))
        head = [f"| | {' | '.join(f'K = {calls}' for calls in columns)} |", f"| --- |{' ---: |' * len(columns)}"]
        lines = {
            name: f"| `{name}` | {' | '.join(f'{value:.1f}' for value in row.values())} |"
            for name, row in self.rows.items()
        }
        parts = [
            "Without fresh noise:",
            *("", *head, *(line for name, line in lines.items() if not SCHEDULERS[name]), ""),
            f"With fresh noise, where DDPM in {self.start} calls comes to {self.fine_ddpm:.1f} dB:",
            *("", *head, *(line for name, line in lines.items() if SCHEDULERS[name]), ""),
            f"PSNR (dB) to DDIM in {self.start} calls, eta 0, from the same x_N at t = {self.start}; {self.faces}"
            f" face{'s' if self.faces > 1 else ''} of {self.size} x {self.size} pixels.",
            "",
        ]
        return "\n".join(parts)


def report(
    pipe: DifFacePipeline,
    model: str,
    clean: torch.Tensor,
    seed: int,
    batch_size: int,
    start: int,
    schedulers: Sequence[str],
    calls: Sequence[int],
) -> ChainsReport:
    """Walk back with each scheduler and number of calls, and compare with the fine chain."""
    degraded = degrade_faces(clean, seed)

    def walk(name: str, num_calls: int) -> torch.Tensor:
        walker = with_parts(pipe, scheduler=plain_scheduler(name, pipe.scheduler.config))
        settings = {"num_inference_steps": num_calls, "start_timestep": start, "eta": 0.0, "s_noise": 1.0}
        return restore(walker, degraded, batch_size, **settings)[0]

    fine = walk("DDIMScheduler", start)
    return ChainsReport(
        **circumstances(pipe, model, clean, seed),
        start=start,
        fine_ddpm=psnr(walk("DDPMScheduler", start), fine).mean().item(),
        rows={name: {k: psnr(walk(name, k), fine).mean().item() for k in calls} for name in schedulers},
    )


def plain_scheduler(name: str, config: dict[str, Any]) -> Any:
    """Return a scheduler of a config that neither clips the faces nor warms up."""
    kind = getattr(diffusers, name)
    known = kind._get_init_keys(kind)
    plain = {option: value for option, value in PLAIN.items() if option in known}
    return kind.from_config(config, **plain | OWN.get(name, {}))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure how near each scheduler ends to the fine chain, on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chains",
        description="How near few network calls of each scheduler end to the chain that takes every timestep.",
    )
    add_face_options(parser)
    parser.add_argument("--start", type=int, default=START, metavar="N", help=f"timestep of x_N (default: {START})")
    args = parser.parse_args(argv)
    check_face_options(parser, args)

    pipe = load_pipeline(args.model, DifFacePipeline)
    if not max(CALLS) <= args.start <= pipe.scheduler.config.num_train_timesteps:
        parser.error(f"--start must be within {max(CALLS)} .. {pipe.scheduler.config.num_train_timesteps}")
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures = report(pipe, str(args.model), clean, args.seed, args.batch_size, args.start, list(SCHEDULERS), CALLS)
    figures.write(args.output, "chains")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
