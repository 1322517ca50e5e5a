"""A stand-in for an Apple GPU: a device of its own, whose numbers lie on the CPU, and which has no float64."""

import contextlib
import functools

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


NAME = "standin"  # torch knows no way to have an "mps" where there is none
UNKNOWN = (torch.float64, torch.complex128)
COPY = torch.ops.aten.copy_.default
TO_PYTHON = torch.ops.aten._local_scalar_dense.default


class DeviceTensor(torch.Tensor):
    """Says that it is on the device."""

    @staticmethod
    def __new__(cls, numbers):
        if numbers.dtype in UNKNOWN:
            raise TypeError(f"the device has no {numbers.dtype}, of shape {list(numbers.shape)}")
        return torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, numbers.stride(), numbers.storage_offset(), dtype=numbers.dtype, device=f"{NAME}:0"
        )

    def __init__(self, numbers):
        self.numbers = numbers

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class Factories(TorchDispatchMode):
    """Sees to what has no tensor among its arguments, too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


@contextlib.contextmanager
def stand_in():
    """Have the device, and let networks be moved there; yield its `torch.device`."""
    _register()
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with Factories():
            yield torch.device(f"{NAME}:0")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


@functools.cache
def _register():
    """Tell torch of the device, which it does not forget again."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")
    library.impl("empty_strided", _empty_strided)
    library.impl("_copy_from", _copy_from)
    return library


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return DeviceTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source, target, non_blocking=False):
    target.numbers.copy_(source.numbers if isinstance(source, DeviceTensor) else source)
    return target


def _compute(function, args, kwargs):
    """Compute on the CPU; the answer is where the device would have it."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = [isinstance(value, DeviceTensor) for value in tensors]
    asked = kwargs.get("device")
    if asked is not None:
        to_device, kwargs = torch.device(asked).type == NAME, kwargs | {"device": "cpu"}
    elif function is COPY:
        to_device = there[0]
    else:
        to_device = any(there) and function is not TO_PYTHON
        if any(there) and any(value.ndim and not on for value, on in zip(tensors, there, strict=True)):
            raise RuntimeError(f"{function} has tensors of the device and of the CPU")
    here = tree_map_only(DeviceTensor, lambda value: value.numbers, (args, kwargs))
    answer = function(*here[0], **here[1])
    if not to_device:
        return answer
    return return_and_correct_aliasing(function, args, kwargs, tree_map_only(torch.Tensor, DeviceTensor, answer))
