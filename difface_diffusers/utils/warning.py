"""Warnings that point to the user's line."""

import sys
import warnings


INNER = (__name__.partition(".")[0], "importlib")  # packages; a module may be on its way in


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line from which the package was called, however deep in it the reason is found."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INNER:
        frame = frame.f_back
    seen = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(
        message, category, frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__"), seen
    )
