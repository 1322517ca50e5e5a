"""What the reports of the benchmarks share: what they were measured on, and how they are written."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.pipelines.sampling import AUTO


@dataclass(frozen=True)
class Report:
    """Figures of one run."""

    def markdown(self) -> str:
        """Return the tables, and the lines that say what they were measured on."""
        raise NotImplementedError

    def write(self, folder: Path, name: str) -> None:
        """Write `NAME.md` and `NAME.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(self.markdown(), encoding="utf-8")
        (folder / f"{name}.json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class FaceReport(Report):
    """Figures of a pipeline on a set of faces.

    Attributes:
        model: Folder or id of the pipeline.
        faces: Number of faces.
        size: Their side, pixels.
        seed: Of what was done to them.
        settings: Steps, start, eta and noise factor that the pipeline's config names.
    """

    model: str
    faces: int
    size: int
    seed: int
    settings: dict[str, Any]


def circumstances(pipe: DifFacePipeline, model: str, clean: torch.Tensor, seed: int) -> dict[str, Any]:
    """Return the fields of a `FaceReport` on the faces `clean`, `[B,3,S,S]`."""
    return {
        "model": model,
        "faces": len(clean),
        "size": clean.shape[-1],
        "seed": seed,
        "settings": saved_defaults(pipe),
    }


def name_start(settings: dict[str, Any]) -> str:
    """Say where the chains of a pipeline with these saved defaults start."""
    start = settings["default_start_timestep"]
    return "a timestep of each face's own" if start == AUTO else f"t = {start}"


def saved_defaults(pipe: DifFacePipeline) -> dict[str, Any]:
    """Return the steps, start, eta and noises that a pipeline's config names, as its constructor takes them."""
    return {
        name: value for name, value in pipe.config.items() if name.startswith("default_") or name == "noise_margin"
    }
