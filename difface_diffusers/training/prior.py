"""Training of the unconditional diffusion prior."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from ..evaluation.sheets import sheet
from ..models.unet import DifFaceUNet2DModel
from .config import PriorConfig
from .data import FaceDataset
from .loop import TrainingResult, train
from .losses import prior_loss, sample_timesteps


SHEET_TIMESTEP = 400
SHEET_STEPS = 20


class PriorTask:
    """Teaches a UNet to predict the noise of diffused faces."""

    name = "unet"

    def __init__(self, config: PriorConfig) -> None:
        self.config = config
        self.model = DifFaceUNet2DModel(**config.model)
        if config.initial_weights is not None:
            initial = DifFaceUNet2DModel.from_pretrained(config.initial_weights)
            self.model.load_state_dict(initial.state_dict())
        self.scheduler = DDPMScheduler(**config.scheduler)

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return `prior_loss` of `batch["clean"]`, `[B,3,S,S]` in [0,1], at random timesteps."""
        clean = batch["clean"] * 2 - 1
        noise = torch.randn(clean.shape).to(clean.device)
        timesteps = sample_timesteps(
            clean.shape[0],
            self.scheduler.config.num_train_timesteps,
            self.config.focus_timestep,
            self.config.focus_probability,
        ).to(clean.device)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        return prior_loss(model(noisy, timesteps).sample, clean, noise, noisy, timesteps, self.scheduler)

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Walk clean faces that were noised to t = 400 back to t = 0 by DDIM."""
        from diffusers import DDIMScheduler

        clean = batch["clean"] * 2 - 1
        scheduler = DDIMScheduler.from_config(self.scheduler.config, clip_sample=True)
        scheduler.set_timesteps(SHEET_STEPS * scheduler.config.num_train_timesteps // SHEET_TIMESTEP)
        timesteps = scheduler.timesteps[-SHEET_STEPS:]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean.device)
        sample = noisy = scheduler.add_noise(clean, noise, torch.tensor([SHEET_TIMESTEP]))
        for timestep in timesteps:
            epsilon = model(sample, timestep).sample[:, :3]
            sample = scheduler.step(epsilon, timestep, sample).prev_sample
        columns = {"clean": clean, f"t = {SHEET_TIMESTEP}": noisy, "denoised": sample}
        return sheet({name: (images / 2 + 0.5).clamp(0, 1) for name, images in columns.items()})


def train_prior(config: PriorConfig, data: str | Path, output: str | Path) -> TrainingResult:
    """Train a prior on a folder of clean aligned faces; see `loop.train` for what `output` receives."""
    torch.manual_seed(config.loop.seed)
    dataset = FaceDataset(data, config.data, config.loop.seed)
    return train(PriorTask(config), dataset, config.loop, output)
