"""Where the models lie that come with the package, and the prior that two of them share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from .unet import DifFaceUNet2DModel


BUNDLED_MODEL = str(Path(__file__).parents[1] / "mini")
BUNDLED_INPAINT_MODEL = str(Path(__file__).parents[1] / "mini_inpaint")  # its prior is that of BUNDLED_MODEL
BUNDLED_UPSCALER = str(Path(__file__).parents[1] / "background")


def shares_prior(index: Mapping[str, Any]) -> bool:
    """Whether a `model_index.json` names `BundledPrior` in the place of a prior."""
    return index.get("unet") == ["difface_diffusers", BundledPrior.__name__]


class BundledPrior(ModelMixin):
    """What a `model_index.json` names in the place of the prior of `BUNDLED_MODEL`, which so is stored once."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, subfolder: str | None = None, **kwargs: Any) -> Any:
        """Load the prior of `BUNDLED_MODEL`, wherever it was to be loaded from."""
        return DifFaceUNet2DModel.from_pretrained(BUNDLED_MODEL, subfolder="unet", **kwargs)

    @classmethod
    def load_config(cls, *_: Any, subfolder: str | None = None, **kwargs: Any) -> Any:
        """Return the config of the prior of `BUNDLED_MODEL`."""
        return DifFaceUNet2DModel.load_config(BUNDLED_MODEL, subfolder="unet", **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Any:
        """Make the prior of a config, with other weights."""
        return DifFaceUNet2DModel.from_config(config, **kwargs)
