"""What the tests of 8 bits know of the processor that they run on."""

import pytest
import torch

from difface_diffusers.int8_layers import counts_exactly


EIGHT_BITS = counts_exactly(127)
AVX512 = torch.cpu.get_capabilities().get("avx512_bw", False)
SEVEN_BITS = torch.backends.cpu.get_cpu_capability() == "AVX512" and counts_exactly(63)

needs_8_bits = pytest.mark.skipif(not EIGHT_BITS, reason="this processor cannot multiply bytes: no VNNI, no AMX")
needs_7_bits = pytest.mark.skipif(not SEVEN_BITS, reason="this processor has no AVX-512")
needs_int8 = pytest.mark.skipif(
    not (EIGHT_BITS or SEVEN_BITS), reason="8 bits are refused on this processor: no VNNI, no AMX, no AVX-512"
)
