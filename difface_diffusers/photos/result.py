"""What the restoration of a photograph answers."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..faces import Face
from .treatment import FaceTreatment


@dataclass(frozen=True)
class PhotoRestoration:
    """A restored photograph.

    Attributes:
        images: the photograph, enlarged, with its faces restored; one per sample, or one of the samples picked for each
            face; in the form it was given in.
        faces: the restored faces, from left to right, in the pixels of the photograph that was given.
        crops: the aligned faces before, at the model's size.
        estimates: what the estimator alone answered to them, the samples of a face next to each other.
        restored: the aligned faces after, in the same order, whole: `treatments` say how much of them is in `images`.
        photo_size: height and width of the photograph that was given, pixels.
        treatments: how far each of the faces was changed, and why; empty for aligned faces, which are restored whole.
    """

    images: list[Image.Image | np.ndarray]
    faces: list[Face]
    crops: list[Image.Image]
    estimates: list[Image.Image]
    restored: list[Image.Image]
    photo_size: tuple[int, int]
    treatments: list[FaceTreatment] = field(default_factory=list)

    @property
    def image(self) -> Image.Image | np.ndarray:
        """The restored photograph, of the first sample if there are several."""
        return self.images[0]
