"""Where the models lie that come with the package."""

import os
from os import PathLike
from pathlib import Path


BUNDLED_MODEL = str(Path(__file__).parents[1] / "mini")
BUNDLED_INPAINT_MODEL = str(Path(__file__).parents[1] / "mini_inpaint")  # its prior is that of BUNDLED_MODEL


def is_bundled_inpaint_model(path: str | PathLike) -> bool:
    """Whether a path leads to `BUNDLED_INPAINT_MODEL`, however it is written."""
    return os.path.isdir(path) and os.path.samefile(path, BUNDLED_INPAINT_MODEL)
