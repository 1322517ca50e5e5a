import pytest
import torch
from torch import nn

from difface_diffusers.training.muon import RMS, Muon, is_matrix, orthogonalize


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(weight, gradients, **settings):
    """Return a weight after a step with each of the gradients."""
    parameter = nn.Parameter(weight.clone())
    optimizer = Muon([parameter], **settings)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


# The matrix


@pytest.mark.parametrize("shape", [(16, 16), (16, 90), (90, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_directions_become_about_as_strong(shape, dtype):
    left, _, right = torch.linalg.svd(draw(*shape), full_matrices=False)
    uneven = left @ torch.logspace(0, -1, 16).diag() @ right
    even = orthogonalize(uneven.to(dtype)).float()
    assert even.shape == shape
    strengths = (left.T @ even @ right.T).diagonal()  # along the directions of the matrix itself
    assert strengths.min() > 0.6 and strengths.max() < 1.3


def test_nothing_stays_nothing():
    assert orthogonalize(torch.zeros(20, 30)).equal(torch.zeros(20, 30))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 16), True),
        ((64, 3, 3, 3), True),
        ((64, 1, 3, 3), False),
        ((225, 8), False),
        ((3, 64, 3, 3), False),
        ((64,), False),
    ],
)
def test_what_is_a_matrix(shape, expected):
    assert is_matrix(torch.empty(shape)) is expected


# The step


@pytest.mark.parametrize("shape", [(32, 48), (24, 16, 3, 3)])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_a_step_is_as_large_as_adams_whatever_the_gradient(shape, scale):
    change = step(torch.zeros(shape), [scale * draw(*shape)], lr=0.1)
    assert change.square().mean().sqrt() == pytest.approx(0.1 * RMS, rel=0.25)
    assert (change * draw(*shape)).sum() < 0


def test_a_convolution_is_the_matrix_of_its_outputs():
    weight, gradient = draw(24, 16, 3, 3), draw(24, 16, 3, 3, seed=1)
    flat = step(weight.flatten(1), [gradient.flatten(1)], lr=0.1).view(weight.shape)
    assert step(weight, [gradient], lr=0.1).equal(flat)
    inner = weight.to(memory_format=torch.channels_last)
    assert step(inner, [gradient.to(memory_format=torch.channels_last)], lr=0.1).equal(flat)


def test_gradients_are_averaged_over_steps():
    """Of a gradient that turns round in every step, little is left."""
    weight, gradient = torch.zeros(20, 20), draw(20, 20)
    there, back = (step(weight, [gradient] * 20 + [sign * gradient], lr=0.1) for sign in (1, -1))
    straight = step(weight, [gradient] * 20, lr=0.1)
    assert (back - straight).flatten() @ (there - straight).flatten() > 0


def test_weights_decay_as_adamws():
    weight, gradient = draw(20, 20), draw(20, 20, seed=1)
    plain, decayed = (step(weight, [gradient], lr=0.1, weight_decay=decay) for decay in (0, 0.5))
    torch.testing.assert_close(plain - decayed, weight * 0.05)


def test_what_is_no_matrix_gets_adamws_steps():
    weight = draw(40)
    gradients = [draw(40, seed=seed) for seed in range(1, 5)]
    expected = nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW([expected], lr=0.1, weight_decay=0.3)
    for gradient in gradients:
        expected.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(step(weight, gradients, lr=0.1, weight_decay=0.3), expected.detach())


def test_a_weight_without_a_gradient_stays():
    still = nn.Parameter(draw(20, 20))
    Muon([still], lr=0.1, weight_decay=1.0).step()
    assert still.equal(draw(20, 20))
