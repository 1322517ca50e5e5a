"""The nodes that load models."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from .host import find_device, find_model
from .inputs import CATEGORY, DEVICES, DTYPES, INPAINTING_MODEL_TYPE, MODEL_TYPE, InputTypes


if TYPE_CHECKING:
    from difface_diffusers import DifFacePipeline

BUNDLED = "bundled"


@dataclass(frozen=True)
class LoadedModel:
    """What the nodes that load models hand on.

    Attributes:
        pipe: a pipeline, on its device.
        preset: name of the settings that it is to be called with; `None` is its own.
    """

    pipe: "DifFacePipeline"
    preset: str | None


class LoadModel:
    """Load a model that restores faces."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = (MODEL_TYPE,)
    RETURN_NAMES: ClassVar[tuple[str, ...]] = ("model",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "Loads a DifFace model that restores faces."

    pipeline_class: ClassVar[str] = "DifFacePipeline"
    presets: ClassVar[str] = " The bundled one has fast, balanced and reference."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Return what the node asks for."""
        return {
            "required": {
                "model": (
                    "STRING",
                    {
                        "default": BUNDLED,
                        "tooltip": f"{BUNDLED}, the small one of the package; official, the original's, fetched once; a folder"
                        " in models/difface, any other folder, or the ORG/NAME of a model on the Hugging Face Hub.",
                    },
                ),
                "preset": (
                    "STRING",
                    {"default": "", "tooltip": f"Settings that are saved with the model, by name.{cls.presets}"},
                ),
                "dtype": (DTYPES, {"default": "float32", "tooltip": "Precision of the networks."}),
                "device": (DEVICES, {"default": "auto", "tooltip": "auto: where ComfyUI works."}),
            }
        }

    def load(self, model: str, preset: str, dtype: str, device: str) -> tuple[LoadedModel]:
        """Return a model in a tuple.

        Args:
            model: "bundled", "official", a folder or a Hub id.
            preset: name of settings that are saved with it; empty for its own.
            dtype: of `DTYPES`.
            device: of `DEVICES`.

        Raises:
            ValueError: it cannot be loaded, has no such preset, or the device is not there; the message names the input.
        """
        import difface_diffusers
        from difface_diffusers.hub.named_models import resolve_model

        pipeline_class = getattr(difface_diffusers, self.pipeline_class)
        try:
            folder = resolve_model(find_model(model), self.pipeline_class)
            pipe = pipeline_class.from_pretrained(folder, dtype=getattr(torch, dtype))
            pipe.check_inputs(num_images=1, sampling=pipe.with_defaults())
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"`model` {model} cannot be used: {error}") from error
        pipe.with_defaults(preset or None)  # raises for one that there is not
        try:
            pipe.to(find_device(device))
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
            raise ValueError(f"`device` {device} cannot be used: {error}") from error
        pipe.set_progress_bar_config(disable=True)  # ComfyUI shows one
        return (LoadedModel(pipe, preset or None),)


class LoadInpaintingModel(LoadModel):
    """Load a model that fills holes in faces."""

    RETURN_TYPES = (INPAINTING_MODEL_TYPE,)
    DESCRIPTION = "Loads a DifFace model that fills holes in faces."

    pipeline_class = "DifFaceInpaintPipeline"
    presets = " The bundled one has none."
