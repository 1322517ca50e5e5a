import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from difface_diffusers.acceleration import int8_layers
from difface_diffusers.acceleration.int8_layers import Inputs, Int8Conv2d, Int8Linear, counts_exactly, largest_weight
from difface_diffusers.acceleration.processor import ProcessorError
from tests.acceleration.int8_processors import needs_7_bits, needs_8_bits, needs_int8, needs_its_torch


def in_int8(layer, inputs, largest=None):
    return (Int8Linear if isinstance(layer, nn.Linear) else Int8Conv2d)(layer, inputs, largest)


LAYERS = {
    "convolution": (lambda: nn.Conv2d(16, 24, 3, padding=1), (2, 16, 9, 7)),
    "strided": (lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1), (1, 16, 8, 8)),
    "without bias": (lambda: nn.Conv2d(16, 24, 1, bias=False), (1, 16, 8, 8)),
    "pointwise": (lambda: nn.Conv2d(16, 24, 1), (2, 16, 4, 3)),
    "linear": (lambda: nn.Linear(16, 24), (2, 5, 16)),
    "linear on a map": (lambda: nn.Linear(16, 24, bias=False), (2, 4, 3, 16)),
}


@pytest.mark.parametrize(
    ("largest", "tolerance"),
    [pytest.param(127, 0.015, marks=needs_8_bits), pytest.param(63, 0.02, marks=needs_7_bits)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_answers_nearly_as_in_floats(name, dtype, largest, tolerance):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, values = make(), torch.randn(shape)
    inputs = Inputs(values.shape, values.min().item(), values.max().item())
    with torch.no_grad():
        expected, answer = layer(values), in_int8(layer, inputs, largest)(values.to(dtype))
    assert answer.dtype is dtype and answer.shape == expected.shape
    error = (answer.float() - expected).square().mean().sqrt() / expected.std()
    assert 0.001 < error < tolerance


@needs_int8
@torch.no_grad()
def test_integers_are_what_the_formula_says():
    layer = nn.Linear(16, 16, bias=False)
    layer.weight.copy_(torch.eye(16) * torch.arange(1, 17).float()[:, None])  # one weight a channel, the largest
    integers = in_int8(layer, Inputs(torch.Size([1, 1, 16]), -1.0, 4.1))  # steps of 0.02, 50 is zero
    values = torch.linspace(-2, 5, 16)
    expected = ((values / 0.02).round() + 50).clamp(0, 255) - 50
    torch.testing.assert_close(integers(values[None, None])[0, 0], 0.02 * expected * torch.arange(1, 17))


@needs_int8
@torch.no_grad()
def test_a_layer_takes_other_shapes_than_that_it_was_laid_out_for():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, padding=1)
    values = torch.randn(3, 16, 12, 10)
    inputs = Inputs(torch.Size([1, 16, 8, 8]), values.min().item(), values.max().item())
    torch.testing.assert_close(in_int8(layer, inputs)(values), layer(values), atol=0.05, rtol=0)


@needs_int8
@torch.no_grad()
def test_what_is_always_0_stays_0():
    layer = nn.Conv2d(16, 16, 1)
    layer.weight.zero_()
    answer = in_int8(layer, Inputs(torch.Size([1, 16, 2, 2])))(torch.zeros(1, 16, 2, 2))
    torch.testing.assert_close(answer, layer(torch.zeros(1, 16, 2, 2)))


@needs_int8
@torch.no_grad()
def test_a_linear_layer_is_fused_with_what_follows():
    torch.manual_seed(0)
    values, added = torch.randn(5, 16), torch.randn(5, 24)
    first, second = nn.Linear(16, 24), nn.Linear(24, 24)
    hidden = F.gelu(first(values))
    one = Int8Linear(first, Inputs(values.shape, values.min().item(), values.max().item()))
    two = Int8Linear(second, Inputs(hidden.shape, hidden.min().item(), hidden.max().item()))
    integers = one.count_for(two, one.round(values), "gelu")
    assert integers.dtype is torch.uint8
    assert (integers.int() - two.round(F.gelu(one(values))).int()).abs().max() <= 1
    torch.testing.assert_close(
        two.count(integers, torch.float32, added=added), second(hidden) + added, atol=0.03, rtol=0
    )


# Processors


@pytest.fixture
def pretend(monkeypatch):
    """Let the processor count exactly with weights up to some integer, on vectors of some width."""

    def pretend(exact, vectors="AVX512"):
        monkeypatch.setattr(int8_layers, "counts_exactly", lambda largest: largest <= exact)
        monkeypatch.setattr(int8_layers.torch.backends.cpu, "get_cpu_capability", lambda: vectors)

    return pretend


@pytest.fixture
def asked_anew():
    """Let the processor be asked in this test, and again after it."""
    counts_exactly.cache_clear()
    yield
    counts_exactly.cache_clear()


@needs_its_torch
@pytest.mark.parametrize(
    ("exact", "vectors", "expected"), [(127, "AVX512", 127), (127, "AVX2", 127), (63, "AVX512", 63)]
)
def test_weights_have_as_many_bits_as_are_counted_right(pretend, exact, vectors, expected):
    pretend(exact, vectors)
    assert largest_weight() == expected


@needs_its_torch
@pytest.mark.parametrize(("exact", "vectors"), [(63, "AVX2"), (0, "AVX512")])
def test_else_layers_are_refused(pretend, exact, vectors):
    pretend(exact, vectors)
    message = "8 bits would be counted wrong here, or no faster than float32: .+ Leave the networks in float32"
    with pytest.raises(ProcessorError, match=message):
        largest_weight()
    with pytest.raises(ProcessorError, match=message):
        in_int8(nn.Conv2d(16, 16, 1), Inputs(torch.Size([1, 16, 2, 2])))


@needs_int8
def test_the_processor_is_asked_by_the_largest_sums():
    exact = largest_weight()
    assert counts_exactly(exact) and (exact == 127 or not counts_exactly(127))


@needs_its_torch
@pytest.mark.usefixtures("asked_anew")
def test_a_kernel_that_there_is_not_counts_nothing(monkeypatch):
    def refuse(*_):
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(Int8Linear, "count", refuse)
    assert not counts_exactly(63)


@needs_its_torch
@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("wrong", [Int8Conv2d, Int8Linear])
def test_a_kernel_that_errs_by_a_thousandth_is_noticed(monkeypatch, wrong):
    right = wrong.forward
    monkeypatch.setattr(wrong, "forward", lambda layer, values: 1.001 * right(layer, values))
    assert not counts_exactly(63)


@needs_int8
@pytest.mark.parametrize("leave", [copy.deepcopy, lambda layer: torch.save(layer, io.BytesIO()), nn.Module.state_dict])
def test_a_layer_stays_on_its_machine(leave):
    layer = in_int8(nn.Linear(16, 16), Inputs(torch.Size([1, 1, 16]), -1.0, 1.0))
    with pytest.raises(TypeError, match="can be neither saved nor copied"):
        leave(nn.Sequential(layer))
