"""Checks of arguments, whose errors name the argument, what it received and what is accepted."""

import math

import numpy as np


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, of Python or NumPy, and no truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_number(name: str, value: float, lowest: float, highest: float = math.inf) -> None:
    """Raise `ValueError` unless a value is a finite number within the bounds."""
    if not is_number(value) or not lowest <= value <= highest or math.isinf(value):
        bounds = f"at least {lowest}" if highest == math.inf else f"within {lowest} .. {highest}"
        raise ValueError(f"`{name}` is {value!r}; it must be a number {bounds}.")


def check_integer(name: str, value: int, lowest: int, highest: int | None, source: str = "") -> None:
    """Raise `ValueError` unless `value` is an integer within the bounds; `source` says where the upper one comes from."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"`{name}` is {value!r}; it must be an integer.")
    if value < lowest or (highest is not None and value > highest):
        upper = "" if highest is None else f" and at most {highest}"
        raise ValueError(f"`{name}` is {value}; it must be at least {lowest}{upper}{source and f' ({source})'}.")
