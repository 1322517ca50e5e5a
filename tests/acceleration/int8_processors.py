"""What the tests of 8 bits share: what they know of the processor and the torch that they run on, and a pipeline."""

import pytest
import torch

from difface_diffusers import DifFacePipeline, SwinIREstimator
from difface_diffusers.acceleration.int8_layers import counts_exactly
from difface_diffusers.acceleration.int8_torch import NEWEST, OLDEST
from tests.conftest import ddim, tiny_unet


def is_exact(largest):
    try:
        return counts_exactly(largest)
    except ImportError:  # not with this torch
        return False


RELEASE = tuple(int(number) for number in torch.__version__.split(".")[:2])
EIGHT_BITS = is_exact(127)
AVX512 = hasattr(torch.cpu, "get_capabilities") and torch.cpu.get_capabilities().get("avx512_bw", False)
SEVEN_BITS = torch.backends.cpu.get_cpu_capability() == "AVX512" and is_exact(63)

needs_its_torch = pytest.mark.skipif(not OLDEST <= RELEASE <= NEWEST, reason="the layers refuse this torch")
needs_8_bits = pytest.mark.skipif(not EIGHT_BITS, reason="no VNNI, no AMX, or another torch")
needs_7_bits = pytest.mark.skipif(not SEVEN_BITS, reason="no AVX-512, or another torch")
needs_int8 = pytest.mark.skipif(
    not (EIGHT_BITS or SEVEN_BITS), reason="8 bits are refused here: no VNNI, no AMX, no AVX-512, or another torch"
)


def wide_pipe():
    """A pipeline of layers wide enough."""
    unet = tiny_unet(block_out_channels=(16, 32))
    estimator = SwinIREstimator(embed_dim=16, depths=(2,), num_heads=(2,), scale=2, window_size=4, num_feat=16).eval()
    pipe = DifFacePipeline(unet, estimator, ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe
