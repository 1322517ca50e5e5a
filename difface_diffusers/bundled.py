"""Where the models lie that come with the package."""

from pathlib import Path


BUNDLED_MODEL = str(Path(__file__).parent / "mini")
BUNDLED_INPAINT_MODEL = str(Path(__file__).parent / "mini_inpaint")  # its prior is that of BUNDLED_MODEL
