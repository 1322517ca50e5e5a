"""Where the models lie that come with the package."""

from pathlib import Path


BUNDLED_MODEL = str(Path(__file__).parents[1] / "mini")
BUNDLED_INPAINT_MODEL = str(Path(__file__).parents[1] / "mini_inpaint")  # its prior is that of BUNDLED_MODEL
