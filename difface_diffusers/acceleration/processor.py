"""What this machine's processor counts right, and in which precisions it is fast."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch


BYTES = {  # what multiplies bytes without rounding sums off, by the names of `torch.cpu.get_capabilities`
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX",
    "dot": "dot products",  # ARM's
}
NATIVE = {  # what computes in a precision, by the same names
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
ONEDNN_LIMIT = "ONEDNN_MAX_CPU_ISA"  # of the instructions that torch and OpenVINO may use


class ProcessorError(RuntimeError):
    """This processor cannot do it, or would do it wrong."""


def processor_name() -> str:
    """Return the name of the processor, as far as torch knows it, and the vectors that torch uses on it."""
    known = _capabilities()
    name = known.get("cpu_name") or known.get("architecture") or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def multiplies_bytes() -> bool:
    """Return whether the processor has instructions that multiply bytes and keep the whole sum."""
    return _has(*BYTES)


def why_bytes_are_wrong() -> str:
    """Say what a processor lacks, or what keeps it from being used, where products of bytes come out wrong."""
    if not _capabilities():
        return (
            f"torch {torch.__version__} does not tell what this processor ({processor_name()}) can; a newer one does"
        )
    if not multiplies_bytes():
        return f"this processor ({processor_name()}) has none of {', '.join(BYTES.values())}"
    if ONEDNN_LIMIT in os.environ:
        return f"{ONEDNN_LIMIT}={os.environ[ONEDNN_LIMIT]} keeps it from the processor's instructions"
    return f"torch {torch.__version__} has no right kernels for this processor ({processor_name()})"


def is_native(dtype: torch.dtype) -> bool:
    """Return whether the processor has instructions for a precision; without them it is right, but slow."""
    return dtype not in NATIVE or _has(*NATIVE[dtype])


def fastest_dtype(device: str | torch.device) -> torch.dtype:
    """Return the precision that a device runs a network of convolutions fastest in, of those that are right there.

    Apple's GPUs overflow in float16 in places where others do not, so they get float32.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.bfloat16 if is_native(torch.bfloat16) else torch.float32
    return torch.float32 if kind == "mps" else torch.float16


def why_slow(dtype: torch.dtype) -> str | None:
    """Say why a precision is slow on this processor; `None` if it is not, or nobody knows."""
    if is_native(dtype) or not _capabilities():
        return None
    return f"this processor ({processor_name()}) has no instructions for {dtype}; float32 is faster, often many times"


def keep_compiled_code_apart() -> None:
    """Let torch's compiler keep what it caches for other processors apart, unless its cache has a tag already.

    Its cache does not know the width of vectors: from one that was filled with AVX-512, code with AVX2 answers NaN or crashes.
    """
    if not torch.compiler.config.cache_key_tag:
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()


def _capabilities() -> Mapping[str, Any]:
    """Return what torch knows of the processor, by name; older releases know nothing."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def _has(*names: str) -> bool:
    return any(_capabilities().get(name, False) for name in names)
