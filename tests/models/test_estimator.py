import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.configuration_utils import register_to_config

from difface_diffusers.models import estimator as module
from difface_diffusers.models.estimator import DiffusedEstimator, diffuse, pad_to_multiple
from tests.hub.originals.reference import image, load_golden, noise


class Brightener(DiffusedEstimator):
    """Adds a constant, so that its answers leave [0,1]."""

    @register_to_config
    def __init__(self, amount: float):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.tensor(amount))

    def forward(self, image):
        return image + self.offset


@pytest.fixture
def scheduler():
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(250)
    return scheduler


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(clean, timestep, generator):
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[timestep].item()
    return kept**0.5 * clean + (1 - kept) ** 0.5 * torch.randn(clean.shape, generator=generator)


# Numbers


@pytest.mark.parametrize("timestep", [0, 400, torch.tensor(400), 999])
def test_maps_to_minus_one_to_one_and_noises(scheduler, timestep):
    estimate = torch.rand(2, 3, 6, 4, generator=seeded(1))
    expected = by_hand(estimate * 2 - 1, int(timestep), seeded())
    torch.testing.assert_close(diffuse(estimate, scheduler, timestep, seeded()), expected, rtol=0, atol=1e-5)


def test_clamps_before_it_maps(scheduler):
    estimate = torch.tensor([-3.0, 0.25, 7.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    clean = torch.tensor([-1.0, -0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    expected = by_hand(clean, 400, seeded())
    torch.testing.assert_close(diffuse(estimate, scheduler, 400, seeded()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "timestep"), [("sampler_ddim_eta0", 400), ("sampler_ddim_eta1", 400), ("sampler_ddpm_1000", 40)]
)
def test_draws_the_original_x_n(scheduler, monkeypatch, name, timestep):
    shape = (2, 3, 32, 32)
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise(name, -1, shape))
    x_n = diffuse(image(f"{name}/f", shape), scheduler, timestep)
    torch.testing.assert_close(x_n, load_golden(name)[0]["x_N"], rtol=0, atol=1e-5)


def test_sample_x_n_diffuses_the_answer(scheduler):
    estimator, face = Brightener(0.5), torch.rand(2, 3, 4, 6, generator=seeded(1))
    expected = diffuse(face + 0.5, scheduler, 400, seeded())
    assert torch.equal(estimator.sample_x_n(face, scheduler, 400, seeded()), expected)


# Randomness


def test_same_generator_gives_the_same_draw(scheduler):
    estimate = torch.full((2, 3, 4, 4), 0.5)
    draws = [diffuse(estimate, scheduler, 400, seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_one_generator_per_image_makes_draws_independent_of_the_batch(scheduler):
    estimate = torch.rand(2, 3, 4, 4, generator=seeded(1))
    together = diffuse(estimate, scheduler, 400, [seeded(3), seeded(4)])
    assert torch.equal(together[1:], diffuse(estimate[1:], scheduler, 400, seeded(4)))


def test_s_noise_is_a_factor_on_the_noise(scheduler):
    estimate = torch.rand(1, 3, 4, 4, generator=seeded(1))
    weak, plain, strong = (diffuse(estimate, scheduler, 400, seeded(), s_noise) for s_noise in (0.5, 1.0, 1.5))
    torch.testing.assert_close(strong - plain, plain - weak, rtol=0, atol=1e-5)
    noise = torch.randn(1, 3, 4, 4, generator=seeded()) * (plain - weak)
    assert noise.min() >= 0 and noise.max() > 0


def test_without_generator_reads_the_global_stream(scheduler):
    estimate = torch.full((1, 3, 4, 4), 0.5)
    torch.manual_seed(5)
    assert torch.equal(diffuse(estimate, scheduler, 400), diffuse(estimate, scheduler, 400, seeded(5)))


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_is_float32_whatever_the_estimate(scheduler, dtype):
    estimate = torch.rand(1, 3, 4, 4, generator=seeded(1)).to(dtype)
    x_n = diffuse(estimate, scheduler, 400, seeded())
    assert x_n.dtype == torch.float32
    assert torch.equal(x_n, diffuse(estimate.float(), scheduler, 400, seeded()))


def test_leaves_the_estimate_alone(scheduler):
    estimate = torch.full((1, 3, 4, 4), 2.0)
    diffuse(estimate, scheduler, 400)
    assert torch.equal(estimate, torch.full((1, 3, 4, 4), 2.0))


def test_padding_reflects_without_repeating_the_border():
    degraded = image("padding", (2, 3, 13, 20))
    assert torch.equal(pad_to_multiple(degraded, 8), F.pad(degraded, (0, 4, 0, 3), mode="reflect"))
    assert torch.equal(
        pad_to_multiple(degraded[..., :16, :8], 8), F.pad(degraded[..., :8], (0, 0, 0, 3), mode="reflect")
    )
    assert torch.equal(pad_to_multiple(degraded[..., :8, :16], 8), degraded[..., :8, :16])


@pytest.mark.parametrize(
    ("row", "padded"), [([4], [4] * 6), ([4, 5], [4, 5] * 3), ([4, 5, 6], [4, 5, 6, 5, 4, 5]), ([4] * 7, [4] * 12)]
)
def test_padding_of_sides_that_one_reflection_cannot_fill(row, padded):
    answer = pad_to_multiple(torch.tensor([[[row, row]]]), 6)
    assert answer.shape == (1, 1, 6, len(padded))
    assert answer[0, 0].tolist() == [padded] * 6
