import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch.distributions import Normal, kl_divergence

from difface_diffusers.training.losses import (
    at_known_detail,
    discretized_gaussian_log_likelihood,
    min_snr_weights,
    prior_loss,
    sample_timesteps,
    variational_bound,
)


SCHEDULER = DDPMScheduler(beta_start=1e-4, beta_end=0.02)
SHARP = torch.ones(1, dtype=torch.int64)  # any number of faces at their own size


def tensors(*timesteps, seed=0):
    """Return clean, noise, noisy and timesteps, one image per timestep, pixels on 8-bit levels in [-1,1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(timesteps), 3, 6, 5)
    clean = torch.randint(256, shape, generator=generator) / 127.5 - 1
    noise = torch.randn(shape, generator=generator)
    timesteps = torch.tensor(timesteps)
    return clean, noise, SCHEDULER.add_noise(clean, noise, timesteps), timesteps


def schedule():
    """Return beta_t and the product of all 1 - beta up to t, float64, both starting at t = 0."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return betas, (1 - betas).cumprod(0)


def true_posterior(clean, noisy, timestep):
    """q(x_{t-1} | x_t, x_0) by Bayes' rule: the product of two Gaussians in x_{t-1}, its precision their sum."""
    betas, products = schedule()
    from_noisy = (1 - betas[timestep]) / betas[timestep]
    from_clean = 1 / (1 - products[timestep - 1])
    variance = 1 / (from_noisy + from_clean)
    mean = noisy.double() / (1 - betas[timestep]).sqrt() * from_noisy
    mean = mean + clean.double() * products[timestep - 1].sqrt() * from_clean
    return Normal(mean * variance, variance.sqrt())


# The detail that faces are known to


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 5)])
def test_errors_are_averaged_over_the_pixels_of_the_files(height, width):
    errors = torch.randn(5, 3, height, width, generator=torch.Generator().manual_seed(1))
    averaged = at_known_detail(errors, torch.tensor([1, 2, 3, 4, 9]))
    assert averaged[0].equal(errors[0])
    for face, side in ((1, 2), (2, 2), (3, 4), (4, 4)):
        for top in range(0, height, side):
            for left in range(0, width, side):
                rows, columns = slice(top, top + side), slice(left, left + side)
                expected = errors[face, :, rows, columns].mean(dim=(1, 2), keepdim=True)
                part = averaged[face, :, rows, columns]
                torch.testing.assert_close(part, expected.expand_as(part))


def test_detail_that_an_enlarged_face_cannot_show_has_no_loss():
    clean, noise, noisy, timesteps = tensors(0, 300)
    checkers = (-1.0) ** (torch.arange(6)[:, None] + torch.arange(5)) * torch.tensor([1.0, 1, 1, 1, 0])
    arguments = (noise + checkers, clean, noise, noisy, timesteps, SCHEDULER)
    sharp, half, enlarged = (
        prior_loss(*arguments, pixel_size=torch.tensor(sizes)) for sizes in ([1, 1], [1, 2], [2, 2])
    )
    assert sharp.item() == pytest.approx(0.8, rel=1e-5)
    assert half.item() == pytest.approx(0.4, rel=1e-5)
    assert enlarged.item() == pytest.approx(0, abs=1e-6)


# The variational bound


@pytest.mark.parametrize("timestep", [1, 2, 30, 500, 999])
@pytest.mark.parametrize("place", [-1.0, 0.3, 1.0])
def test_bound_is_the_divergence_from_the_true_posterior_in_bits(timestep, place):
    clean, noise, noisy, timesteps = tensors(timestep)
    epsilon = noise + 0.1 * torch.randn(noise.shape, generator=torch.Generator().manual_seed(1))
    betas, products = schedule()

    truth = true_posterior(clean, noisy, timestep)
    predicted_clean = (noisy - (1 - products[timestep]).sqrt() * epsilon) / products[timestep].sqrt()
    mean = true_posterior(predicted_clean, noisy, timestep).mean
    share = (place + 1) / 2  # from the posterior's variance at -1 to beta at 1, in the logarithm
    variance = betas[timestep] ** share * truth.variance ** (1 - share)
    expected = kl_divergence(truth, Normal(mean, variance.sqrt())).mean() / math.log(2)

    bound = variational_bound(epsilon, torch.full_like(epsilon, place), clean, noisy, timesteps, SCHEDULER)
    assert bound.item() == pytest.approx(expected.item(), rel=3e-3, abs=2e-6)


def test_bound_vanishes_for_the_true_noise_and_variance():
    clean, noise, noisy, timesteps = tensors(1, 40, 700)
    bound = variational_bound(noise, torch.full_like(noise, -1), clean, noisy, timesteps, SCHEDULER)
    assert abs(bound.item()) < 1e-5


def test_bound_is_the_exact_likelihood_of_8_bit_pixels_at_0():
    clean, noise, _, timesteps = tensors(0)
    clean[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])  # the outermost bins
    noisy = SCHEDULER.add_noise(clean, noise, timesteps)
    epsilon = 0.7 * noise
    betas, products = schedule()
    place = 0.4
    deviation = (betas[0] ** 0.7 * (betas[1] * (1 - products[0]) / (1 - products[1])) ** 0.3).sqrt()
    mean = (noisy.double() - betas[0].sqrt() * epsilon) / (1 - betas[0]).sqrt()

    upper = torch.special.ndtr((clean + 1 / 255 - mean) / deviation)
    lower = torch.special.ndtr((clean - 1 / 255 - mean) / deviation)
    upper, lower = torch.where(clean > 0.999, 1.0, upper), torch.where(clean < -0.999, 0.0, lower)
    expected = -(upper - lower).log().mean() / math.log(2)

    bound = variational_bound(epsilon, torch.full_like(noise, place), clean, noisy, timesteps, SCHEDULER)
    assert bound.item() == pytest.approx(expected.item(), rel=2e-3)


def test_bound_of_a_batch_is_the_mean_over_its_images():
    clean, noise, noisy, timesteps = tensors(0, 1, 250, 0, 900)
    epsilon, place = 0.9 * noise, torch.tanh(noise.flip(0))
    alone = [
        variational_bound(
            epsilon[i : i + 1], place[i : i + 1], clean[i : i + 1], noisy[i : i + 1], timesteps[i : i + 1], SCHEDULER
        )
        for i in range(5)
    ]
    bound = variational_bound(epsilon, place, clean, noisy, timesteps, SCHEDULER)
    torch.testing.assert_close(bound, torch.stack(alone).mean(), rtol=1e-5, atol=0)


# The likelihood


@pytest.mark.parametrize(("mean", "deviation"), [(0.1, 0.3), (-0.9, 0.02), (1.3, 0.5)])
def test_probabilities_of_all_levels_add_up_to_1(mean, deviation):
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_deviation = torch.full_like(levels, math.log(deviation))
    likelihood = discretized_gaussian_log_likelihood(levels, torch.full_like(levels, mean), log_deviation)
    assert likelihood.exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("deviation", [0.005, 0.05, 0.6])
def test_probability_of_a_level_is_that_of_its_bin(deviation):
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean = torch.full_like(levels, 0.2)
    probability = discretized_gaussian_log_likelihood(levels, mean, torch.full_like(levels, math.log(deviation))).exp()
    edges = torch.cat([torch.tensor([-math.inf]), levels[:-1] + 1 / 255, torch.tensor([math.inf])])
    exact = torch.special.ndtr((edges - mean[0]) / deviation).diff()
    torch.testing.assert_close(probability, exact, rtol=0, atol=5e-4)  # the tanh is 3e-4 off at most, at either edge


def test_an_impossible_level_stays_finite():
    likelihood = discretized_gaussian_log_likelihood(torch.tensor(0.0), torch.tensor(50.0), torch.tensor(-6.0))
    assert likelihood.item() == pytest.approx(math.log(1e-12), rel=1e-5)


# The loss


def test_three_channels_have_the_mean_squared_error_of_epsilon():
    clean, noise, noisy, timesteps = tensors(0, 300)
    output = noise + torch.linspace(0, 1, 5)
    loss = prior_loss(output, clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP)
    assert loss.item() == pytest.approx((0 + 1 / 16 + 1 / 4 + 9 / 16 + 1) / 5, rel=1e-5)


def test_six_channels_add_the_bound_which_leaves_epsilon_alone():
    clean, noise, noisy, timesteps = tensors(0, 300)
    epsilon = (0.5 * noise).requires_grad_()
    place = torch.full_like(noise, 0.2).requires_grad_()
    loss = prior_loss(torch.cat([epsilon, place], dim=1), clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP)
    loss.backward()

    squared = (epsilon - noise).square().mean()
    bound = variational_bound(epsilon, place, clean, noisy, timesteps, SCHEDULER)
    assert loss.item() == pytest.approx((squared + bound).item(), rel=1e-5)
    torch.testing.assert_close(epsilon.grad, torch.autograd.grad(squared, epsilon)[0])
    torch.testing.assert_close(place.grad, torch.autograd.grad(bound, place)[0])
    assert place.grad.flatten(1).abs().amin(1).gt(0).all()


def test_half_precision_outputs_have_a_full_precision_loss():
    clean, noise, noisy, timesteps = tensors(20, 300)
    output = torch.cat([noise, noise], dim=1).bfloat16()
    loss = prior_loss(output, clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        prior_loss(output.float(), clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP).item(), rel=1e-6
    )


# Its weights


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_weights_are_the_capped_ratio_over_the_ratio(gamma):
    _, products = schedule()
    ratio = products / (1 - products)
    expected = torch.minimum(ratio, torch.tensor(gamma)) / ratio
    weights = min_snr_weights(torch.arange(1000), SCHEDULER, gamma)
    torch.testing.assert_close(weights.double(), expected, rtol=2e-3, atol=0)
    assert weights[0] < 2e-3 and (weights[600:] == 1).all()  # at t = 0 the ratio is 9999
    assert (weights.diff() >= 0).all()


def test_pure_noise_has_the_weight_1():
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True)
    weights = min_snr_weights(torch.tensor([10, 998, 999]), scheduler, 5.0)
    assert weights[0] < 0.1 and weights[1:].tolist() == [1, 1]


def test_the_squared_error_of_each_image_is_weighed():
    clean, noise, noisy, timesteps = tensors(0, 100, 700)
    output = noise + torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    weights = min_snr_weights(timesteps, SCHEDULER, 5.0)
    loss = prior_loss(output, clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP, min_snr_gamma=5.0)
    expected = (weights * torch.tensor([1.0, 4.0, 9.0])).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(set(weights.tolist())) == 3


def test_the_bound_is_not_weighed():
    clean, noise, noisy, timesteps = tensors(0, 100)
    epsilon = (0.5 * noise).requires_grad_()
    place = torch.full_like(noise, 0.2).requires_grad_()
    output = torch.cat([epsilon, place], dim=1)
    losses = [
        prior_loss(output, clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP, min_snr_gamma=gamma)
        for gamma in (None, 0.5)
    ]
    bound = variational_bound(epsilon.detach(), place, clean, noisy, timesteps, SCHEDULER)
    squared = (epsilon - noise).square().mean(dim=(1, 2, 3))
    assert losses[1].item() == pytest.approx(
        ((min_snr_weights(timesteps, SCHEDULER, 0.5) * squared).mean() + bound).item(), rel=1e-5
    )
    variances = [torch.autograd.grad(loss, place, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(*variances)
    assert not torch.allclose(*(torch.autograd.grad(loss, epsilon, retain_graph=True)[0] for loss in losses))


def test_a_cap_that_no_timestep_reaches_changes_nothing():
    clean, noise, noisy, timesteps = tensors(0, 300)
    unweighed, capped = (
        prior_loss(
            0.3 * noise, clean, noise, noisy, timesteps, SCHEDULER, pixel_size=SHARP, min_snr_gamma=gamma
        ).item()
        for gamma in (None, 1e6)
    )
    assert capped == pytest.approx(unweighed, rel=1e-6)


# Timesteps


def test_timesteps_are_uniform_without_focus():
    timesteps = sample_timesteps(20_000, 40, 10, None)
    assert timesteps.dtype == torch.int64
    counts = timesteps.bincount(minlength=40)
    assert len(counts) == 40
    assert 400 < counts.min()
    assert counts.max() < 600


def test_timesteps_below_the_focus_have_its_share():
    counts = sample_timesteps(20_000, 40, 10, 0.8).bincount(minlength=40)
    assert len(counts) == 40
    assert counts[:10].sum() / 20_000 == pytest.approx(0.8, abs=0.015)
    assert 1400 < counts[:10].min()
    assert counts[:10].max() < 1800
    assert 80 < counts[10:].min()
    assert counts[10:].max() < 190


@pytest.mark.parametrize(("probability", "lowest", "highest"), [(1.0, 0, 9), (0.0, 10, 39)])
def test_all_or_none_below_the_focus(probability, lowest, highest):
    timesteps = sample_timesteps(2000, 40, 10, probability)
    assert (timesteps.min(), timesteps.max()) == (lowest, highest)
