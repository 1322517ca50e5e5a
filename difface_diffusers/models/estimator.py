"""The contract of every diffused estimator: a degraded face in, a guess of the clean face and its noised state out."""

import inspect
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .wrapping import unwrap


def diffuse(
    estimate: torch.Tensor,
    scheduler: SchedulerMixin,
    timestep: float | torch.Tensor,
    generator: torch.Generator | list[torch.Generator] | None = None,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """Noise an estimate of the clean face to x_N, a draw from p(x_N | y0) (DifFace, section 3.1).

    Args:
        estimate: `[B,3,H,W]`, RGB; values outside [0,1] are clamped before they are mapped to [-1,1].
        scheduler: owns the noise level; one whose `add_noise` looks timesteps up must have had `set_timesteps` called.
        timestep: noise level of x_N on the scheduler's training scale.
        generator: source of the noise, one or one per image; `None` reads torch's global stream.
        s_noise: factor on the noise.

    Returns:
        x_N, float32 `[B,3,H,W]`, on the scale the scheduler samples on.
    """
    clean = estimate.float().clamp(0, 1) * 2 - 1
    noise = randn_tensor(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    timesteps = torch.as_tensor(timestep, device=clean.device).expand(clean.shape[0])
    return scheduler.add_noise(clean, s_noise * noise, timesteps)


class DiffusedEstimator(ModelMixin, ConfigMixin):
    """Base of the estimators f(y0; w): `forward(image [B,3,H,W] in [0,1])` answers on the same scale, any H and W.

    Those that inpaint take `(image, mask)`.
    """

    def sample_x_n(
        self,
        image: torch.Tensor,
        scheduler: SchedulerMixin,
        timestep: float | torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw x_N for a degraded face: `diffuse` applied to this estimator's answer.

        Args:
            image: degraded face `[B,3,H,W]`, RGB, [0,1].
            scheduler: see `diffuse`.
            timestep: see `diffuse`.
            generator: see `diffuse`.
            mask: `[B,1,H,W]`, 1 where `image` is missing; for estimators that inpaint, which need it.

        Returns:
            x_N, float32, of the answer's shape.
        """
        estimate = self(image) if mask is None else self(image, mask)
        return diffuse(estimate, scheduler, timestep, generator)


def takes_mask(estimator: Any) -> bool:
    """Whether an estimator fills holes, which it is shown by a mask."""
    return "mask" in inspect.signature(unwrap(estimator).forward).parameters


def check_positive(**sizes: float) -> None:
    """Raise a `ValueError` that names the first of `sizes` that is not above zero."""
    for name, value in sizes.items():
        if value <= 0:
            raise ValueError(f"`{name}` is {value}; it must be above 0.")


def is_power_of_two(number: int) -> bool:
    """Whether `number` is one of 1, 2, 4, 8, ..."""
    return number >= 1 and number & (number - 1) == 0


def pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Extend an image to the right and bottom by reflection until both sides are multiples of `multiple`.

    The border pixel is not repeated. Where one reflection is too short the image is mirrored to and fro, so that every
    size is accepted.

    Args:
        image: `[B,C,H,W]`, H and W at least 1.
        multiple: what both sides of the answer are divisible by.

    Returns:
        `[B,C,H',W']`, the smallest such sides.
    """
    for axis in (-2, -1):
        side = image.shape[axis]
        period = max(2 * (side - 1), 1)
        position = torch.arange(side + -side % multiple, device=image.device) % period
        image = image.index_select(axis, torch.minimum(position, period - position))
    return image
