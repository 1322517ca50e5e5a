"""PyAV, which only videos need."""

from typing import Any

from ..utils.extras import import_extra


def load_av() -> Any:
    """Import PyAV.

    Raises:
        ImportError: it is missing; the message says how to install it.
    """
    return import_extra("av", "video", "Videos need")
