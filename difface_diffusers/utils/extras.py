"""Packages that only some of the features need."""

from importlib import import_module
from typing import Any


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of one of the package's extras.

    Args:
        module: its name.
        extra: the extra that installs it.
        purpose: the beginning of the error's sentence, such as "Training needs".

    Raises:
        ImportError: it is missing or broken; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        install = f'pip install "difface-diffusers[{extra}]"'
        raise ImportError(f"{purpose} `{module}`, which cannot be imported ({error}): {install}") from error
