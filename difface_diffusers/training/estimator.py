"""Training of a diffused estimator with nothing but an L1 loss (DifFace, sections 3.2 and 4.4)."""

from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from ..evaluation.metrics import psnr, ssim
from ..imaging.grids import image_grid
from ..models import ESTIMATORS
from .clock import Clock
from .config import EstimatorConfig
from .data import FaceDataset
from .growing import grow
from .loop import TrainingResult, train
from .losses import at_known_detail
from .mixture import Data
from .task import build_model, copy_weights


INPAINTS = "lama"

GROWERS = {"swinir": grow}  # make an estimator of a smaller one; the other architectures take one of their own size

MISSING_WEIGHT = 10.0  # of a missing pixel in the loss; a known one has 1


class EstimatorTask:
    """Teaches an estimator to undo the blind degradation."""

    name = "estimator"

    def __init__(self, config: EstimatorConfig) -> None:
        if config.architecture not in ESTIMATORS:
            raise ValueError(f"`architecture` is {config.architecture!r}; it must be one of {list(ESTIMATORS)}.")
        self.config = config
        architecture, transfer = ESTIMATORS[config.architecture], GROWERS.get(config.architecture, copy_weights)
        self.model = build_model(architecture, config.model, config.initial_weights, self.name, transfer)

    def estimate(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the unclamped estimate, float32 `[B,3,S,S]`, of `batch["degraded"]`, of that shape and in [0,1]."""
        estimate, clean = model(batch["degraded"]), batch["clean"]
        if estimate.shape != clean.shape:
            raise ValueError(f"`model` answers {list(estimate.shape)} to {list(clean.shape)}; it must keep the size.")
        return estimate.float()

    def error(self, estimate: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean absolute error, a scalar, in the detail that the clean faces are known to."""
        return at_known_detail(estimate - batch["clean"], batch["pixel_size"]).abs().mean()

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the error of the unclamped estimate; images are `[B,3,S,S]` in [0,1]."""
        return self.error(self.estimate(model, batch), batch)

    def validate(
        self, model: ModelMixin, batch: dict[str, torch.Tensor], generators: list[torch.Generator]
    ) -> dict[str, torch.Tensor]:
        """Return loss, PSNR and SSIM of each estimate, and the latter two of each input."""
        estimate = self.estimate(model, batch)
        faces = range(len(estimate))
        losses = [
            self.error(estimate[[face]], {name: images[[face]] for name, images in batch.items()}) for face in faces
        ]
        answer, degraded, clean = estimate.clamp(0, 1), batch["degraded"], batch["clean"]
        return {
            "loss": torch.stack(losses),
            "psnr": psnr(answer, clean),
            "ssim": ssim(answer, clean),
            "input_psnr": psnr(degraded, clean),
            "input_ssim": ssim(degraded, clean),
        }

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Show input, estimate and clean face."""
        estimate = self.estimate(model, batch).clamp(0, 1)
        return image_grid({"input": batch["degraded"], "estimate": estimate, "clean": batch["clean"]})


class InpaintingTask(EstimatorTask):
    """Teaches an estimator to fill holes."""

    def estimate(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the estimate, float32 `[B,3,S,S]`, where `batch["mask"]`, `[B,1,S,S]`, is 1 for what is missing."""
        return model(batch["degraded"], batch["mask"]).float()

    def error(self, estimate: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the absolute error, missing pixels counting ten times, summed over colors and averaged over weights."""
        weight = 1 + (MISSING_WEIGHT - 1) * batch["mask"]
        errors = at_known_detail(weight * (estimate - batch["clean"]), batch["pixel_size"])
        return errors.abs().sum() / weight.sum()


def train_estimator(config: EstimatorConfig, data: Data, output: str | Path, go_on: bool = False) -> TrainingResult:
    """Train an estimator on clean aligned faces: `data` as in `FaceDataset`, `output` and `go_on` as in `loop.train`.

    The architecture decides what it learns: to fill holes, or to undo the blind degradation.
    """
    clock = Clock(config.loop.max_seconds)
    torch.manual_seed(config.loop.seed)
    if config.architecture == INPAINTS:
        task, scratches = InpaintingTask(config), config.scratch_probability
        dataset = FaceDataset(data, config.data, config.loop.seed, holes=True, scratch_probability=scratches)
    else:
        task, dataset = EstimatorTask(config), FaceDataset(data, config.data, config.loop.seed, config.degradation)
    return train(task, dataset, config.loop, output, go_on, clock)
