"""Pictures that are aligned faces already: restored or filled whole, in all their bits."""

from typing import Any, cast

import numpy as np
import torch

from ..faces.compositing import to_gray
from ..imaging.pixels import join_channels, split_channels
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .damage import FilledPhoto
from .restore import faces_to_pil, split_over_faces
from .result import PhotoRestoration
from .samples import closest_in_identity


def restore_aligned(
    pipe: DifFacePipeline,
    faces: list[np.ndarray],
    generator: list[torch.Generator],
    num_samples: int = 1,
    pick: str | None = None,
    **sampling: Any,
) -> list[PhotoRestoration]:
    """Restore aligned faces together.

    Args:
        pipe: restores them.
        faces: each as `split_channels` takes it; what comes back has its depth and alpha.
        generator: one for each face.
        num_samples: restorations of each face.
        pick: see `restore_photo`.
        **sampling: handed to the pipeline's call.

    Returns:
        One for each face; its `faces` are empty, as none were looked for.
    """
    channels = [split_channels(face) for face in faces]
    crops = [rgb.astype(np.float32) / np.iinfo(rgb.dtype).max for rgb, _ in channels]
    generators = split_over_faces(generator, [num_samples] * len(faces))
    answer = pipe(crops, generator=generators, output_type="pt", num_samples=num_samples, **sampling)
    restorations = []
    for index, (face, (rgb, alpha)) in enumerate(zip(faces, channels, strict=True)):
        rows = slice(index * num_samples, (index + 1) * num_samples)
        restored, estimates = (
            [picture.permute(1, 2, 0).cpu().numpy() for picture in pictures[rows]]
            for pictures in (answer.images, answer.estimates)
        )
        levels = np.iinfo(rgb.dtype).max
        chosen = restored
        if pick is not None:
            chosen = closest_in_identity([crops[index]], [[picture] for picture in restored])
        images = [
            join_channels(np.rint(picture * levels).astype(rgb.dtype), alpha, like=face, gray=False)
            for picture in chosen
        ]
        pictures = (faces_to_pil(row) for row in ([crops[index]], estimates, restored))
        restorations.append(PhotoRestoration(images, [], *pictures, photo_size=rgb.shape[:2]))
    return restorations


def fill_aligned(
    pipe: DifFaceInpaintPipeline,
    face: np.ndarray,
    mask: torch.Tensor,
    keep_gray: str = "auto",
    generator: torch.Generator | None = None,
    **sampling: Any,
) -> FilledPhoto:
    """Fill the holes of an aligned face.

    Args:
        pipe: fills them.
        face: as `split_channels` takes it; what comes back has its depth and alpha.
        mask: `[1,H,W]`, 1 where it is to be filled.
        keep_gray: "off" takes the colors that the model paints; else a gray face stays so.
        generator: source of all noise.
        **sampling: handed to the pipeline's call.
    """
    rgb, alpha = split_channels(face)
    levels = np.iinfo(rgb.dtype).max
    answer = pipe(rgb.astype(np.float32) / levels, mask, generator=generator, output_type="np", **sampling)
    filled = cast(np.ndarray, answer.images)[0]
    gray = keep_gray != "off" and not np.ptp(rgb, axis=-1).any()
    filled = np.rint((to_gray(filled) if gray else filled) * levels).astype(rgb.dtype)
    return FilledPhoto(join_channels(filled, alpha, like=face, gray=gray), faces=[])
