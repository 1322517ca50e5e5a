"""Losses of the prior, and the timesteps they are taken at (Ho et al. 2020; Nichol and Dhariwal 2021)."""

import math

import torch
from diffusers import DDPMScheduler


COARSEST_PIXEL = 4  # of those that errors are averaged over; larger ones are judged as if they were of that size


def at_known_detail(errors: torch.Tensor, pixel_size: torch.Tensor) -> torch.Tensor:
    """Average the errors of each face over the pixels that its file has.

    A face that was enlarged says nothing of finer detail: what a network adds there is neither right nor wrong.

    Args:
        errors: signed, `[B,C,H,W]`.
        pixel_size: int64 `[B]`, side of a pixel of each file in pixels of `errors`; 1, 2 and 4 are told apart.

    Returns:
        The errors, same shape, each average in all the pixels that it is of.
    """
    height, width = errors.shape[-2:]
    for side in (2, COARSEST_PIXEL):
        averages = torch.nn.functional.avg_pool2d(errors, side, ceil_mode=True, count_include_pad=False)
        averages = averages.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width]
        errors = torch.where((pixel_size >= side)[:, None, None, None], averages, errors)
    return errors


def sample_timesteps(
    count: int,
    num_train_timesteps: int,
    focus_timestep: int,
    focus_probability: float | None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Draw training timesteps: below `focus_timestep` with `focus_probability`, else from it up; uniform in each part.

    Args:
        count: how many.
        num_train_timesteps: T; timesteps are 0 .. T-1.
        focus_timestep: 1 .. T-1.
        focus_probability: 0 .. 1; `None` draws uniformly from all timesteps.
        device: where they are drawn, the CPU unless given.

    Returns:
        int64 `[count]`.
    """
    if focus_probability is None:
        return torch.randint(num_train_timesteps, (count,), device=device)
    below = torch.randint(focus_timestep, (count,), device=device)
    above = torch.randint(focus_timestep, num_train_timesteps, (count,), device=device)
    return torch.where(torch.rand(count, device=device) < focus_probability, below, above)


def prior_loss(
    model_output: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: DDPMScheduler,
    *,
    pixel_size: torch.Tensor,
    min_snr_gamma: float | None = None,
) -> torch.Tensor:
    """Mean squared error of epsilon, plus the variational bound when the model also answers the variance.

    Args:
        model_output: `[B,3,H,W]`, epsilon; or `[B,6,H,W]`, epsilon and the variance's place in its range, -1 .. 1.
        clean: x_0, `[B,3,H,W]` in [-1,1].
        noise: the epsilon that was added.
        noisy: x_t.
        timesteps: int64 `[B]`.
        scheduler: holds the betas.
        pixel_size: int64 `[B]`, the detail that the clean faces are known to, see `at_known_detail`.
        min_snr_gamma: weighs the squared error of each image, see `min_snr_weights`; `None` weighs all alike. The bound has its
            own weights.

    Returns:
        Scalar. The bound reaches the variance half alone: epsilon enters it detached. It is of all pixels.
    """
    model_output = model_output.float()
    epsilon = model_output[:, :3]
    squared = at_known_detail(epsilon - noise, pixel_size).square()
    if min_snr_gamma is None:
        loss = squared.mean()
    else:
        loss = (min_snr_weights(timesteps, scheduler, min_snr_gamma) * squared.mean(dim=(1, 2, 3))).mean()
    if model_output.shape[1] == 6:
        loss = loss + variational_bound(epsilon.detach(), model_output[:, 3:], clean, noisy, timesteps, scheduler)
    return loss


def min_snr_weights(timesteps: torch.Tensor, scheduler: DDPMScheduler, gamma: float) -> torch.Tensor:
    """Return min(SNR, gamma) / SNR of each timestep, `[B]` (Hang et al. 2023, arXiv 2303.09556, for epsilon).

    Where there is little noise, the error of epsilon weighs less, so that these timesteps do not outdo all others. Where there
    is nothing but noise the weight is 1.
    """
    product = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return (gamma * (1 - product) / product).clamp(max=1)


def variational_bound(
    epsilon: torch.Tensor,
    variance: torch.Tensor,
    clean: torch.Tensor,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: DDPMScheduler,
) -> torch.Tensor:
    """Variational bound of one step in bits per dimension, with a learned-range variance.

    The KL divergence between the true posterior q(x_{t-1} | x_t, x_0) and the model's; at t = 0 the negative
    log-likelihood of the 8-bit image under the model's discretized Gaussian.
    """
    betas = scheduler.betas.to(clean.device, torch.float32)
    log_alphas = (-betas).log1p().cumsum(0)  # float32 would lose 1 - alphas_cumprod at t = 0
    log_previous = torch.cat([log_alphas.new_zeros(1), log_alphas[:-1]])
    noise_share, noise_share_previous = -log_alphas.expm1(), -log_previous.expm1()  # 1 - alphas_cumprod
    posterior_variance = betas * noise_share_previous / noise_share
    posterior_variance[0] = posterior_variance[1]

    def at(coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients[timesteps][:, None, None, None]

    weight_clean = at(betas * (log_previous / 2).exp() / noise_share)
    weight_noisy = at(noise_share_previous * (1 - betas).sqrt() / noise_share)
    predicted_clean = at((-log_alphas / 2).exp()) * noisy - at((-log_alphas).expm1().sqrt()) * epsilon
    true_mean = weight_clean * clean + weight_noisy * noisy
    mean = weight_clean * predicted_clean + weight_noisy * noisy

    share = (variance + 1) / 2
    true_log_variance = at(posterior_variance.log())
    log_variance = share * at(betas.log()) + (1 - share) * true_log_variance

    divergence = 0.5 * (
        log_variance
        - true_log_variance
        + (true_log_variance - log_variance).exp()
        + (true_mean - mean) ** 2 * (-log_variance).exp()
        - 1
    )
    likelihood = discretized_gaussian_log_likelihood(clean, mean, 0.5 * log_variance)
    nats = torch.where(timesteps[:, None, None, None] == 0, -likelihood, divergence)
    return nats.mean() / math.log(2)


def discretized_gaussian_log_likelihood(
    pixels: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor
) -> torch.Tensor:
    """Log-likelihood of 8-bit pixels in [-1,1] under a Gaussian, per element; the outermost bins hold the tails."""

    def cdf(value: torch.Tensor) -> torch.Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))

    inverse_std = (-log_std).exp()
    above = cdf((pixels - mean + 1 / 255) * inverse_std)
    below = cdf((pixels - mean - 1 / 255) * inverse_std)
    probability = torch.where(pixels < -0.999, above, torch.where(pixels > 0.999, 1 - below, above - below))
    return probability.clamp(min=1e-12).log()
