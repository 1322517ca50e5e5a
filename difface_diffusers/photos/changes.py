"""Where a restored photograph is more than its enlargement."""

import numpy as np
from PIL import Image

from .result import PhotoRestoration
from .samples import add_maps


def changed_area(restoration: PhotoRestoration) -> np.ndarray:
    """Return how much of the changes to the faces may show in each pixel of the restored photograph.

    Returns:
        `[H,W]` float32 in [0,1], of the size of `restoration.image`: 1 in a face that was changed, fading around it, and 0
        where the photograph is only enlarged. Faces that were left as they are do not count.
    """
    image = restoration.image
    size = image.size[::-1] if isinstance(image, Image.Image) else image.shape[:2]
    canvas = np.zeros((*size, 1), np.uint16)
    maps = [
        np.full(crop.size[::-1], float(treatment.repaired > 0), np.float32)
        for crop, treatment in zip(restoration.crops, restoration.treatments, strict=True)
    ]
    add_maps(canvas, restoration, maps)
    return canvas[..., 0].astype(np.float32) / 65535
