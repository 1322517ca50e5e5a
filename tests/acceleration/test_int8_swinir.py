import pytest
import torch

from difface_diffusers.acceleration.int8 import watch_inputs
from difface_diffusers.acceleration.int8_layers import largest_weight
from difface_diffusers.acceleration.int8_swinir import Int8SwinBlock
from difface_diffusers.models.swinir import SwinBlock, relative_position_index, shifted_window_mask
from tests.acceleration.int8_processors import needs_int8


pytestmark = needs_int8

WINDOW, WIDTH = 4, 32


@torch.no_grad()
def make_block(shifted):
    """A block whose attention is far from uniform, and whose position bias matters."""
    torch.manual_seed(0)
    block = SwinBlock(WIDTH, 2, WINDOW, 2.0, shifted=shifted, drop_path_rate=0.1).eval()
    block.attn.qkv.weight.mul_(3)
    block.attn.bias_table.normal_()
    for norm in (block.norm_attn, block.norm_mlp):
        norm.weight.normal_(1, 0.2), norm.bias.normal_(0, 0.2)
    return block


def shared(x):
    height, width = x.shape[1:3]
    return relative_position_index(WINDOW, x.device), shifted_window_mask(height, width, WINDOW, x.device)


def in_int8(block, x):
    with watch_inputs(block, 1) as inputs:
        block(x, *shared(x))
    return Int8SwinBlock(block, inputs)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 12), (2, 8, 12), (1, 12, 8), (3, 4, 16)])
def test_a_block_answers_nearly_as_in_floats(shape, shifted, dtype):
    block = make_block(shifted)
    x, watched = torch.randn(*shape, WIDTH), torch.randn(1, 8, 12, WIDTH)
    answer = in_int8(block, watched)(x.to(dtype), *shared(x))
    branches = block(x, *shared(x)) - x
    assert answer.dtype is dtype and answer.shape == x.shape
    error = (answer.float() - x - branches).square().mean().sqrt() / branches.std()
    assert 0.001 < error < {127: 0.03, 63: 0.035}[largest_weight()]


@torch.no_grad()
@pytest.mark.slow  # the compiler takes half a minute
def test_a_compiled_block_answers_as_the_eager_one():
    x = torch.randn(2, 8, 12, WIDTH)
    block = in_int8(make_block(True), x)
    answer = torch.compile(block)(x, *shared(x))
    torch.testing.assert_close(answer, block(x, *shared(x)), atol=0.05, rtol=0)
    assert (answer - block(x, *shared(x))).abs().mean() < 1e-3
