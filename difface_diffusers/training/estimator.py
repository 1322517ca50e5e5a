"""Training of a diffused estimator with nothing but an L1 loss (DifFace, sections 3.2 and 4.4)."""

from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from ..evaluation.sheets import sheet
from ..models.lama import LaMaEstimator
from ..models.srcnn import SRCNNEstimator
from ..models.swinir import SwinIREstimator
from .config import EstimatorConfig
from .data import FaceDataset
from .loop import TrainingResult, build_model, train


ARCHITECTURES = {"swinir": SwinIREstimator, "srcnn": SRCNNEstimator, "lama": LaMaEstimator}
INPAINTS = "lama"

MISSING_WEIGHT = 10.0  # of a missing pixel in the loss; a known one has 1


class EstimatorTask:
    """Teaches an estimator to undo the blind degradation."""

    name = "estimator"

    def __init__(self, config: EstimatorConfig) -> None:
        if config.architecture not in ARCHITECTURES:
            raise ValueError(f"`architecture` is {config.architecture!r}; it must be one of {list(ARCHITECTURES)}.")
        self.config = config
        self.model = build_model(ARCHITECTURES[config.architecture], config.model, config.initial_weights, self.name)

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean absolute error of the unclamped estimate; images are `[B,3,S,S]` in [0,1]."""
        estimate, clean = model(batch["degraded"]), batch["clean"]
        if estimate.shape != clean.shape:
            raise ValueError(f"`model` answers {list(estimate.shape)} to {list(clean.shape)}; it must keep the size.")
        return torch.nn.functional.l1_loss(estimate.float(), clean)

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Show input, estimate and clean face."""
        estimate = model(batch["degraded"]).clamp(0, 1)
        return sheet({"input": batch["degraded"], "estimate": estimate, "clean": batch["clean"]})


class InpaintingTask(EstimatorTask):
    """Teaches an estimator to fill holes."""

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the absolute error, missing pixels counting ten times, summed over colours and averaged over weights.

        Images are `[B,3,S,S]` in [0,1], the mask is `[B,1,S,S]`.
        """
        estimate = model(batch["degraded"], batch["mask"]).float()
        weight = 1 + (MISSING_WEIGHT - 1) * batch["mask"]
        return (weight * (estimate - batch["clean"]).abs()).sum() / weight.sum()

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Show input, estimate and clean face."""
        estimate = model(batch["degraded"], batch["mask"])
        return sheet({"input": batch["degraded"], "estimate": estimate, "clean": batch["clean"]})


def train_estimator(config: EstimatorConfig, data: str | Path, output: str | Path) -> TrainingResult:
    """Train an estimator on a folder of clean aligned faces; see `loop.train` for what `output` receives.

    The architecture decides what it learns: to fill holes, or to undo the blind degradation.
    """
    torch.manual_seed(config.loop.seed)
    if config.architecture == INPAINTS:
        task, dataset = InpaintingTask(config), FaceDataset(data, config.data, config.loop.seed, holes=True)
    else:
        task, dataset = EstimatorTask(config), FaceDataset(data, config.data, config.loop.seed, config.degradation)
    return train(task, dataset, config.loop, output)
