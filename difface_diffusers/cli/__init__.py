"""The command line, `difface`."""

from .main import main


__all__ = ["main"]
