import warnings

import pytest
import torch
from accelerate.state import AcceleratorState

from difface_diffusers.acceleration import processor
from difface_diffusers.training import hardware
from difface_diffusers.training.processes import join_processes


@pytest.mark.skipif(torch.cuda.is_available(), reason="the processor of a GPU's host does not matter")
@pytest.mark.parametrize(
    ("precision", "native", "warns"), [("bf16", False, True), ("bf16", True, False), ("no", False, False)]
)
def test_a_precision_that_the_processor_emulates_is_warned_of(monkeypatch, precision, native, warns):
    monkeypatch.setattr(processor, "is_native", lambda dtype: native or dtype is not torch.bfloat16)
    monkeypatch.setattr(processor, "_capabilities", lambda: {"architecture": "x86_64"})  # torch 2.6 tells none
    AcceleratorState._reset_state(reset_partial_state=True)  # it looks at the settings once in a process
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        join_processes(precision)
    AcceleratorState._reset_state(reset_partial_state=True)
    expected = "`mixed_precision` is bf16, but this processor ("
    files = [warning.filename for warning in caught if expected in str(warning.message)]
    assert files == ([__file__] if warns else [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="the processor of a GPU's host does not matter")
@pytest.mark.parametrize(("native", "expected"), [(False, "no"), (True, "bf16")])
def test_unasked_the_precision_is_one_that_the_processor_has(monkeypatch, native, expected):
    monkeypatch.setattr(hardware, "is_native", lambda dtype: native)
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = join_processes("auto").mixed_precision
    AcceleratorState._reset_state(reset_partial_state=True)
    assert precision == expected
