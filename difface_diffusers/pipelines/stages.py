"""The stages of a restoration as functions of the networks, without a pipeline around them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..imaging.tensors import from_tensors, resize
from ..models.wrapping import unwrap
from .schedule import timesteps_with_noise


ToPictures = Callable[
    [torch.Tensor], list[torch.Tensor]
]  # from `[B,3,S,S]` in [0,1] to `[3,H,W]` of the sizes asked for


def to_batch(pictures: Sequence[torch.Tensor], size: Sequence[int], device: torch.device | str) -> torch.Tensor:
    """Resize pictures `[3,H,W]` to the model's size, and put them on a device as one batch `[N,3,S,S]`."""
    return torch.cat([resize(picture[None].to(device), size) for picture in pictures])


def estimate_faces(
    estimator: Any, size: Sequence[int], degraded: torch.Tensor, *conditions: torch.Tensor
) -> torch.Tensor:
    """Return the estimator's guess at the model's size, `[B,3,S,S]` float32 clamped to [0,1].

    Args:
        estimator: the network, or what stands in for it.
        size: height and width of the model's faces, pixels.
        degraded: faces `[B,3,S,S]` in [0,1].
        conditions: what else the estimator takes, such as the mask of one that inpaints.

    Raises:
        ValueError: the estimator answers something else than one RGB picture for each.
    """
    dtype = unwrap(estimator).dtype
    guess = estimator(*(tensor.to(dtype) for tensor in (degraded, *conditions)))
    if guess.ndim != 4 or guess.shape[:2] != degraded.shape[:2]:
        raise ValueError(
            f"`estimator` answers with the shape {list(guess.shape)}; accepted is [{len(degraded)},3,H,W], of any size."
        )
    return resize(guess.float(), size).clamp(0, 1)


def estimate_with_starts(
    estimate: Callable[[torch.Tensor], torch.Tensor],
    scheduler: SchedulerMixin,
    noise_margin: float,
    num_inference_steps: int,
    degraded: torch.Tensor,
) -> tuple[torch.Tensor, list[int]]:
    """Return estimates and starts by the answers to each face and to its mirror image; see `prepare_estimates`.

    Args:
        estimate: from degraded faces to estimates.
        scheduler: holds the cumulative alphas.
        noise_margin: see `DifFacePipeline`.
        num_inference_steps: K, the least that a start can be.
        degraded: faces `[B,3,S,S]` in [0,1].
    """
    answers, mirrored = estimate(degraded), estimate(degraded.flip(-1)).flip(-1)
    disagreement = 2 * (answers - mirrored).square().mean(dim=(1, 2, 3)).sqrt()  # on the scale of [-1,1]
    starts = timesteps_with_noise(scheduler, noise_margin * disagreement)
    return (answers + mirrored) / 2, [max(start, num_inference_steps) for start in starts]


def predict_noise(unet: Any, scaled_sample: torch.Tensor, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return epsilon, `[B,3,S,S]` float32, and beneath it the three channels of a prior's variance where it has them.

    Args:
        unet: the prior.
        scaled_sample: x_t as the network sees it, `[B,3,S,S]`.
        timestep: one, or `[B]`.
        dtype: the prior's; asking a large network for it takes milliseconds, so that is not done in every step.
    """
    timesteps = timestep.expand(len(scaled_sample))
    answer = unet(scaled_sample.to(dtype), timesteps).sample
    return answer.to(torch.float32, copy=True)  # schedulers keep it, and a CUDA graph writes its next one over it


def present_latents(latents: torch.Tensor, to_pictures: ToPictures, output_type: str) -> Any:
    """Return x_0, `[B,3,S,S]` in about [-1,1], as pictures of an output type; as "latent" as it is."""
    return latents if output_type == "latent" else from_tensors(to_pictures(latents / 2 + 0.5), output_type)


def present_estimates(estimates: torch.Tensor, to_pictures: ToPictures, output_type: str) -> Any:
    """Return estimates, `[B,3,S,S]` in [0,1], as pictures of an output type; as "latent" in [-1,1]."""
    return estimates * 2 - 1 if output_type == "latent" else from_tensors(to_pictures(estimates), output_type)


def to_sizes(batch: torch.Tensor, sizes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Resize each row of `[B,3,S,S]` to its own height and width and clamp it to [0,1]."""
    return [resize(row[None], size)[0].clamp(0, 1) for row, size in zip(batch, sizes, strict=True)]
