"""The demo in the browser: `difface demo`, and the Space of `spaces_demo/`."""

from .app import build_demo, launch
from .models import load_models


__all__ = ["build_demo", "launch", "load_models"]
