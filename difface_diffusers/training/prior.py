"""Training of the unconditional diffusion prior."""

from itertools import pairwise
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from ..imaging.grids import image_grid
from ..models.unet import DifFaceUNet2DModel
from .clock import Clock
from .config import PriorConfig
from .data import FaceDataset
from .loop import TrainingResult, train
from .losses import prior_loss, sample_timesteps
from .mixture import Data
from .patching import fold
from .task import build_model
from .widening import widen


SHEET_STEPS = 50  # of the whole schedule
SHEET_SHARE = 0.4  # of them that a sheet walks
VALIDATION_PARTS = 3  # of the timesteps that validation looks at


class PriorTask:
    """Teaches a UNet to predict the noise of diffused faces."""

    name = "unet"

    def __init__(self, config: PriorConfig) -> None:
        self.config = config
        try:
            self.scheduler = DDPMScheduler(**config.scheduler)
        except (TypeError, NotImplementedError) as error:
            raise ValueError(f"`scheduler`: {error}") from error
        self.model = build_model(DifFaceUNet2DModel, config.model, config.initial_weights, self.name, self._transfer)
        self._check()

    def _transfer(self, initial: DifFaceUNet2DModel, model: DifFaceUNet2DModel) -> None:
        if initial.config.patch_size == model.config.patch_size:
            widen(initial, model)
        else:
            fold(initial, model, self.scheduler.alphas_cumprod, max(1, self.config.focus_timestep))

    def _check(self) -> None:
        channels = self.model.config.out_channels
        if channels not in (3, 6):
            raise ValueError(f"`model.out_channels` is {channels}; it must be 3, or 6 with a learned variance.")
        prediction = self.scheduler.config.prediction_type
        if prediction != "epsilon":
            raise ValueError(f'`scheduler.prediction_type` is "{prediction}"; the loss is for "epsilon".')
        focus, last = self.config.focus_timestep, self.scheduler.config.num_train_timesteps - 1
        if self.config.focus_probability is not None and not 1 <= focus <= last:
            raise ValueError(f"`focus_timestep` is {focus}; it must be within 1 .. {last}.")

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return `prior_loss` of `batch["clean"]`, `[B,3,S,S]` in [0,1], at random timesteps."""
        clean = batch["clean"] * 2 - 1
        noise = torch.randn_like(clean)
        timesteps = sample_timesteps(
            clean.shape[0],
            self.scheduler.config.num_train_timesteps,
            self.config.focus_timestep,
            self.config.focus_probability,
            clean.device,
        )
        betas = self.scheduler.betas.to(clean.device)
        self.scheduler.betas = betas  # ty: ignore[invalid-assignment]  copied but once, as the device waits for it
        noisy = self.scheduler.add_noise(clean, noise, timesteps)  # ty: ignore[invalid-argument-type]  IntTensor
        tensors = (model(noisy, timesteps).sample, clean, noise, noisy, timesteps)
        return prior_loss(
            *tensors, self.scheduler, pixel_size=batch["pixel_size"], min_snr_gamma=self.config.min_snr_gamma
        )

    def validate(
        self, model: ModelMixin, batch: dict[str, torch.Tensor], generators: list[torch.Generator]
    ) -> dict[str, torch.Tensor]:
        """Return the loss of each face at a timestep of each third of those below `focus_timestep`, and their mean."""
        clean = batch["clean"] * 2 - 1
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
        noise = noise.to(clean.device)
        end = min(self.config.focus_timestep, self.scheduler.config.num_train_timesteps)
        losses = {}
        for low, high in pairwise(end * part // VALIDATION_PARTS for part in range(VALIDATION_PARTS + 1)):
            timesteps = torch.cat([torch.randint(low, high, (1,), generator=generator) for generator in generators])
            timesteps = timesteps.to(clean.device)
            noisy = self.scheduler.add_noise(clean, noise, timesteps)  # ty: ignore[invalid-argument-type]  IntTensor
            tensors = (model(noisy, timesteps).sample, clean, noise, noisy, timesteps, batch["pixel_size"])
            faces = zip(*(tensor.split(1) for tensor in tensors), strict=True)
            losses[f"loss_{low}_{high}"] = torch.stack(
                [prior_loss(*face, self.scheduler, pixel_size=pixel_size) for *face, pixel_size in faces]
            )
        return {"loss": torch.stack(list(losses.values())).mean(dim=0), **losses}

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Walk clean faces that were noised two fifths of the way back to t = 0 by DDIM."""
        clean = batch["clean"] * 2 - 1
        scheduler = DDIMScheduler.from_config(self.scheduler.config, clip_sample=True)
        scheduler.set_timesteps(min(SHEET_STEPS, scheduler.config.num_train_timesteps))
        timesteps = scheduler.timesteps[-max(1, round(SHEET_SHARE * len(scheduler.timesteps))) :]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean.device)
        sample = noisy = scheduler.add_noise(clean, noise, timesteps[:1])  # ty: ignore[invalid-argument-type]
        for timestep in timesteps:
            epsilon = model(sample, timestep).sample[:, :3]
            sample = scheduler.step(epsilon, timestep, sample).prev_sample
        columns = {"clean": clean, f"t = {timesteps[0]}": noisy, "denoised": sample}
        return image_grid({name: (images / 2 + 0.5).clamp(0, 1) for name, images in columns.items()})


def train_prior(config: PriorConfig, data: Data, output: str | Path, go_on: bool = False) -> TrainingResult:
    """Train a prior on clean aligned faces: `data` as in `FaceDataset`, `output` and `go_on` as in `loop.train`."""
    clock = Clock(config.loop.max_seconds)
    torch.manual_seed(config.loop.seed)
    dataset = FaceDataset(data, config.data, config.loop.seed)
    return train(PriorTask(config), dataset, config.loop, output, go_on, clock)
