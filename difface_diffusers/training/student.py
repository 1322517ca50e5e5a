"""Distillation of a pipeline's prior into a student of one call (Luhman and Luhman, arXiv 2101.02388)."""

from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from ..hub.ids import may_be_hub_id
from ..hub.named_models import resolve_model
from ..imaging.grids import image_grid
from ..models.unet import DifFaceUNet2DModel
from ..pipelines.guidance import imply_clean
from ..pipelines.pipeline_difface import DifFacePipeline
from .clock import Clock
from .config import StudentConfig
from .data import FaceDataset
from .loop import TrainingResult, train
from .mixture import Data
from .task import build_model


class StudentTask:
    """Teaches a UNet to answer x_N in one call with the x_0 that a pipeline reaches in all of its default ones.

    The states x_N are those that the pipeline's estimator makes of degraded faces: the student learns the part of the chain
    that restorations run, and no other. The chain has to be deterministic: then x_0 is a function of x_N, and a plain L1
    loss has nothing to average over.
    """

    name = "student"

    def __init__(self, config: StudentConfig) -> None:
        self.config = config
        self.model = build_model(DifFaceUNet2DModel, config.model, config.initial_weights, "unet")
        try:
            teacher = resolve_model(config.teacher, DifFacePipeline.__name__)
            if not Path(teacher).is_dir() and not may_be_hub_id(teacher):
                raise ValueError("there is no such folder; it must hold a pipeline.")
            self.teacher = DifFacePipeline.from_pretrained(teacher)
        except (OSError, ValueError) as error:
            raise ValueError(f"`teacher` is {config.teacher!r}: {error}") from error
        self.teacher.set_progress_bar_config(disable=True)
        eta, size = self.teacher.config.default_eta, config.data.image_size
        if eta != 0:
            raise ValueError(f"`teacher` draws fresh noise (`default_eta` {eta}); its chain must be deterministic.")
        if self.teacher.model_size != (size, size):
            raise ValueError(
                f"`data.image_size` is {size}; it must be the size of `teacher`, {self.teacher.model_size}."
            )

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean absolute difference of the two answers, on [-1,1], to `batch["degraded"]`, `[B,3,S,S]` in [0,1]."""
        latents, timestep, target = self._teach(batch["degraded"])
        return torch.nn.functional.l1_loss(self._answer(model, latents, timestep), target)

    def validate(
        self, model: ModelMixin, batch: dict[str, torch.Tensor], generators: list[torch.Generator]
    ) -> dict[str, torch.Tensor]:
        """Return the loss of each face."""
        latents, timestep, target = self._teach(batch["degraded"], generators)
        return {"loss": (self._answer(model, latents, timestep) - target).abs().mean(dim=(1, 2, 3))}

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Show input, teacher, student and clean face."""
        latents, timestep, target = self._teach(batch["degraded"])
        answers = {"teacher": target, "student": self._answer(model, latents, timestep)}
        columns = {name: (answer / 2 + 0.5).clamp(0, 1) for name, answer in answers.items()}
        return image_grid({"input": batch["degraded"], **columns, "clean": batch["clean"]})

    @torch.no_grad()
    def _teach(
        self, degraded: torch.Tensor, generators: list[torch.Generator] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return x_N as the networks see it, its timesteps `[B]`, and the teacher's x_0."""
        teacher = self.teacher.to(degraded.device)
        sampling = teacher.with_defaults()
        estimates, starts = teacher.prepare_estimates(degraded, sampling)
        chains = teacher.prepare_chains(starts, sampling, estimates.device)
        latents = teacher.prepare_latents(estimates, chains, sampling, generators, None)
        scaled, timesteps = chains.scale_model_input(latents, 0), chains.timesteps[0].expand(len(latents))
        return scaled, timesteps, teacher.denoise(latents, chains, sampling.eta, None, None, [])

    def _answer(self, model: torch.nn.Module, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        epsilon = model(latents, timestep).sample[:, :3].float()
        return imply_clean(self.teacher.scheduler, epsilon, timestep, latents)


def train_student(config: StudentConfig, data: Data, output: str | Path, go_on: bool = False) -> TrainingResult:
    """Train a student on clean aligned faces: `data` as in `FaceDataset`, `output` and `go_on` as in `loop.train`."""
    clock = Clock(config.loop.max_seconds)
    torch.manual_seed(config.loop.seed)
    dataset = FaceDataset(data, config.data, config.loop.seed, config.degradation)
    return train(StudentTask(config), dataset, config.loop, output, go_on, clock)
