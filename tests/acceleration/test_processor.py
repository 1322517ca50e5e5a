import platform

import pytest
import torch

from difface_diffusers.acceleration import processor
from difface_diffusers.acceleration.processor import is_native, multiplies_bytes, processor_name, why_bytes_are_wrong


@pytest.fixture
def pretend(monkeypatch):
    """Let the processor have some instructions and no others."""

    def pretend(*names, **facts):
        capabilities = {"architecture": "x86_64", "avx2": True} | dict.fromkeys(names, True) | facts
        monkeypatch.setattr(processor.torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return pretend


@pytest.mark.parametrize("name", ["avx512_vnni", "avx_vnni", "amx_int8", "dot"])
def test_what_multiplies_bytes(pretend, name):
    pretend("avx512_f", "avx512_bf16")
    assert not multiplies_bytes()
    pretend(name)
    assert multiplies_bytes()
    pretend(**{name: False})
    assert not multiplies_bytes()


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.bfloat16, "avx512_bf16"),
        (torch.bfloat16, "amx_bf16"),
        (torch.bfloat16, "bf16"),
        (torch.float16, "avx512_fp16"),
        (torch.float16, "fp16_arith"),
    ],
)
def test_a_precision_is_native_with_instructions_for_it(pretend, dtype, name):
    pretend("avx512_vnni")
    assert is_native(torch.float32) and not is_native(dtype)
    pretend(name)
    assert is_native(dtype)
    other = {torch.bfloat16: torch.float16, torch.float16: torch.bfloat16}[dtype]
    assert not is_native(other)


def test_what_is_missing_is_named(pretend, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    pretend(cpu_name="Example 9000")
    vectors = torch.backends.cpu.get_cpu_capability()
    missing = "has none of AVX-512 VNNI, AVX-VNNI, AMX, dot products"
    assert why_bytes_are_wrong() == f"this processor (Example 9000, {vectors}) {missing}"
    pretend("avx_vnni", cpu_name="Example 9000")
    assert "no right kernels for this processor (Example 9000" in why_bytes_are_wrong()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert why_bytes_are_wrong() == "ONEDNN_MAX_CPU_ISA=AVX2 keeps it from the processor's instructions"


def test_a_processor_without_a_name_has_its_architecture(pretend):
    pretend()
    assert processor_name().startswith("x86_64, ")


def test_an_older_torch_knows_nothing_and_claims_nothing(monkeypatch):
    monkeypatch.delattr(processor.torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bytes() and not is_native(torch.bfloat16) and is_native(torch.float32)
    assert processor_name() == f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    assert f"torch {torch.__version__} does not tell what this processor" in why_bytes_are_wrong()
    assert processor.fastest_dtype("cpu") == torch.float32
    assert processor.why_slow(torch.bfloat16) is None
