"""What the pipelines answer."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image

from ..imaging.tensors import OUTPUT_TYPES


@dataclass
class DifFacePipelineOutput(BaseOutput):
    """Restored faces.

    Attributes:
        images: one picture per input and sample, the samples of an input next to each other, at the size of the input.
            A list of PIL images; or float32 in [0,1], `[N,H,W,3]` arrays or `[N,3,H,W]` tensors, in a list where the
            sizes differ. As "latent", x_0 as the chain left it: `[N,3,S,S]`, float32 in about [-1,1], S the model's.
        estimates: what the estimator alone answered, picture by picture, in the same form.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor | list[np.ndarray] | list[torch.Tensor]
    estimates: list[Image.Image] | np.ndarray | torch.Tensor | list[np.ndarray] | list[torch.Tensor]


def check_output_type(output_type: object) -> None:
    """Raise a `ValueError` unless it is one of "pil", "np", "pt" and "latent"."""
    if output_type not in (*OUTPUT_TYPES, "latent"):
        raise ValueError(f"`output_type` is {output_type!r}; it must be one of {', '.join(OUTPUT_TYPES)}, latent.")
