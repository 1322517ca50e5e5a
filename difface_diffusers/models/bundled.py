"""Where the models lie that come with the package, and the prior that they share."""

from pathlib import Path
from typing import Any

from diffusers.models.auto_model import AutoModel
from diffusers.models.modeling_utils import ModelMixin


BUNDLED_MODEL = str(Path(__file__).parents[1] / "mini")
BUNDLED_INPAINT_MODEL = str(Path(__file__).parents[1] / "mini_inpaint")  # its prior is that of BUNDLED_MODEL


class BundledPrior(ModelMixin):
    """What a `model_index.json` names in the place of the prior of `BUNDLED_MODEL`, which so is stored once."""

    @classmethod
    def from_pretrained(cls, *_: Any, subfolder: str | None = None, **kwargs: Any) -> ModelMixin:
        """Load the prior of `BUNDLED_MODEL`, wherever it was to be loaded from."""
        return AutoModel.from_pretrained(BUNDLED_MODEL, subfolder="unet", **kwargs)
