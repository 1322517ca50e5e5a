"""How fast `difface train` is in several releases of the package, side by side.

    python -m benchmarks.releases --output FOLDER --releases . CHECKOUT [--task prior] [--config NAME] [--data FOLDER] \
        [--device cuda] [--precision bf16] [--batch-size 64] [--workers 8]

Each release runs the same training in a process of its own, in turns, from random weights: so many steps to begin with, then
as many that count. Written to OUTPUT: `releases.md`, `releases.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from difface_diffusers.training import shipped_config
from difface_diffusers.training.config import read_settings, write_settings
from difface_diffusers.training.hardware import choose_precision

from .reports import Report
from .training import device_name, make_faces


NEVER = 10**9  # steps


@dataclass(frozen=True)
class ReleasesReport(Report):
    """Figures of one run, as they are written to `releases.json`.

    Attributes:
        task: "prior" or "estimator".
        config: Name or path.
        data: Folder of the faces; `None` if they were made up.
        device: Its name.
        precision: "no" or "bf16".
        batch_size: Images a step.
        workers: Processes that read faces; 0 reads in the training's own.
        cores: That there are.
        steps: That count, in each round.
        images_per_second: By release, in each round.
    """

    task: str
    config: str
    data: str | None
    device: str
    precision: str
    batch_size: int
    workers: int
    cores: int
    steps: int
    images_per_second: dict[str, list[float]]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        medians = {release: statistics.median(rates) for release, rates in self.images_per_second.items()}
        last = list(medians.values())[-1]
        lines = ["| release | images a second | of the last | rounds |", "| --- | ---: | ---: | --- |"]
        for release, rates in self.images_per_second.items():
            rounds = ", ".join(f"{rate:.2f}" for rate in rates)
            lines.append(f"| {release} | {medians[release]:.2f} | {medians[release] / last:.2f} | {rounds} |")
        faces = "faces that were made up" if self.data is None else f"faces of {self.data}"
        note = (
            f"`difface train {self.task}`, {self.config}, {self.batch_size} {faces} a step, precision {self.precision}, "
            f"{self.workers} processes that read faces; {self.device}, {self.cores} cores. Medians over rounds in turns, each "
            f"of {self.steps} steps after as many to begin with."
        )
        return "\n".join([*lines, "", note, ""])


def adapt(settings: dict[str, Any], precision: str, batch_size: int, workers: int, steps: int) -> dict[str, Any]:
    """Return the settings of a config for a run that shows nothing but two lines of the log, and that every release knows."""
    loop = {
        **settings.get("loop", {}),
        "batch_size": batch_size,
        "gradient_accumulation_steps": 1,
        "mixed_precision": precision,
        "num_workers": workers,
        "warmup_steps": 0,
        "max_steps": 2 * steps,
        "log_every": steps,
        **dict.fromkeys(("sheet_every", "checkpoint_every", "validate_every"), NEVER),
    }
    return {**settings, "loop": loop, "initial_weights": None}


def train(release: Path, task: str, config: Path, data: Path, output: Path, device: str) -> float:
    """Train with a release in a process of its own and return the seconds of the second half of its steps.

    Raises:
        RuntimeError: it failed; says how.
    """
    environment = {**os.environ, "PYTHONPATH": str(release.resolve())}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "difface_diffusers.cli", "train", task, "--config", str(config)]
    command += ["--data", str(data.resolve()), "--output", str(output)]
    done = subprocess.run(command, env=environment, cwd=output.parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the training of {release} ended with status {done.returncode}: {done.stderr.strip()}")
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return entries[-1]["seconds"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure how fast the training of several releases is."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.releases", description="Speed of `difface train` in several releases, side by side."
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--releases",
        type=Path,
        nargs="+",
        required=True,
        help="checkouts of the repository; the last is what others are compared with",
    )
    parser.add_argument("--task", default="prior", choices=["prior", "estimator"], help="default: prior")
    parser.add_argument(
        "--config", default="mini_prior", help="YAML file or name of a shipped one (default: mini_prior)"
    )
    parser.add_argument("--data", type=Path, help="folder of faces (default: pictures that are made up)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "no", "bf16"], help="default: auto")
    parser.add_argument("--batch-size", type=int, default=8, help="images a step (default: 8)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read faces (default: 0)")
    parser.add_argument("--steps", type=int, default=20, help="that count, and that come before them (default: 20)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each release, in turns (default: 2)")
    args = parser.parse_args(argv)
    for name in ("batch_size", "steps", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    for release in args.releases:
        if not (release / "difface_diffusers" / "__init__.py").is_file():
            parser.error(f"--releases: {release} holds no difface_diffusers")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no such GPU")
    device = torch.device(args.device)
    precision = choose_precision(args.precision, device)

    rates: dict[str, list[float]] = {str(release): [] for release in args.releases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            settings = read_settings(shipped_config(args.config) or args.config)
            settings = adapt(settings, precision, args.batch_size, args.workers, args.steps)
            write_settings(settings, folder / "config.yaml")
            data = args.data
            if data is None:
                data = folder / "faces"
                data.mkdir()
                make_faces(data, settings.get("data", {}).get("image_size", 128))
            for number in range(args.rounds):
                for place, release in enumerate(args.releases):
                    output = folder / f"{number}_{place}"
                    seconds = train(release, args.task, folder / "config.yaml", data, output, args.device)
                    rates[str(release)].append(args.steps * args.batch_size / seconds)
        except (ValueError, OSError, RuntimeError) as error:
            parser.error(str(error))
    figures = ReleasesReport(
        task=args.task,
        config=args.config,
        data=None if args.data is None else str(args.data),
        device=device_name(device),
        precision=precision,
        batch_size=args.batch_size,
        workers=args.workers,
        cores=os.cpu_count() or 1,
        steps=args.steps,
        images_per_second=rates,
    )
    figures.write(args.output, "releases")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
