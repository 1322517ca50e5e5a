"""What several restorations of a face tell: where they disagree, and how far each is from what was there.

They are samples of what the face may have looked like, so where they differ from each other the restoration is a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from ..faces.alignment import align, compose, transform
from ..faces.compositing import add_changes
from ..faces.crops import canvas_to_photo
from ..faces.masks import face_mask
from ..imaging.tensors import pil_to_tensor
from .result import PhotoRestoration


BRIGHTEST_UNCERTAINTY = 0.15  # standard deviation, of a scale of 1, that a map shows as its brightest color


@dataclass(frozen=True)
class FaceFidelity:
    """How far the samples of a face are from the face that was given; one number a sample.

    Attributes:
        identity_distance: in dlib's embedding; below 0.6 counts as the same person. A badly degraded face has little identity
            to be near to.
        coarse_psnr: of the face shrunk to 16 x 16 pixels, decibels; what even the strongest degradation leaves.
    """

    identity_distance: list[float]
    coarse_psnr: list[float]


def deviation(samples: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation in each pixel, `[S,S]`, over the channels the root mean square.

    Args:
        samples: of one face, `[M,3,S,S]`, M at least 2.
    """
    return samples.var(dim=0).mean(dim=0).sqrt()


def face_uncertainties(restoration: "PhotoRestoration") -> list[np.ndarray]:
    """Return per face the standard deviation of its samples in each pixel.

    Args:
        restoration: made with `num_samples` of 2 at least.

    Returns:
        Per face `[S,S]` float32 on the scale of [0, 1], see `deviation`.

    Raises:
        ValueError: there is one sample only.
    """
    uncertainties = []
    for samples in _samples_by_face(restoration):
        if len(samples) < 2:
            raise ValueError(
                "`restoration` has one sample of each face; uncertainty needs `num_samples` of 2 at least."
            )
        uncertainties.append(deviation(_stack(samples)).numpy())
    return uncertainties


def photo_uncertainty(restoration: "PhotoRestoration") -> np.ndarray:
    """Return the standard deviation of the samples in each pixel of the restored photograph.

    Returns:
        `[H,W]` float32 on the scale of [0, 1], of the size of `restoration.image`; 0 where there is no face.

    Raises:
        ValueError: there is one sample only.
    """
    maps = face_uncertainties(restoration)
    image = restoration.image
    size = image.size[::-1] if isinstance(image, Image.Image) else image.shape[:2]
    canvas = np.zeros((*size, 1), np.uint16)
    add_maps(canvas, restoration, maps)
    return canvas[..., 0].astype(np.float32) / 65535


def add_maps(canvas: np.ndarray, restoration: "PhotoRestoration", maps: Sequence[np.ndarray]) -> None:
    """Add maps of the faces, in place, to one of the photograph.

    Args:
        canvas: `[H,W,1]`, uint8 or uint16, of any size.
        restoration: says where the faces are.
        maps: per face `[S,S]` float32 in [0,1].
    """
    to_photo = canvas_to_photo(canvas.shape[:2], restoration.photo_size)
    matrices = [align(face.landmarks, len(values)) for face, values in zip(restoration.faces, maps, strict=True)]
    masks = [
        face_mask(transform(face.landmarks, matrix), len(values))
        for face, values, matrix in zip(restoration.faces, maps, matrices, strict=True)
    ]
    changes = [values[..., None] for values in maps]
    add_changes(canvas, changes, masks, [compose(to_photo, matrix) for matrix in matrices])


def uncertainty_picture(uncertainty: np.ndarray) -> np.ndarray:
    """Color uncertainties `[H,W]`, see `photo_uncertainty`, from black to bright yellow; RGB `[H,W,3]`, uint8."""
    return heat_map(np.rint(np.clip(uncertainty / BRIGHTEST_UNCERTAINTY, 0, 1) * 255).astype(np.uint8))


def heat_map(levels: np.ndarray) -> np.ndarray:
    """Color a map `[H,W]` or `[H,W,1]`, uint8, from black to bright yellow; RGB `[H,W,3]`, uint8."""
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def face_fidelities(restoration: "PhotoRestoration") -> list[FaceFidelity]:
    """Return per face how far each of its samples is from the face that was given. Needs the extra `metrics`."""
    from ..evaluation import coarse_psnr, identity_distance

    fidelities = []
    for crop, samples in zip(restoration.crops, _samples_by_face(restoration), strict=True):
        restored = _stack(samples)
        given = _stack([crop]).expand_as(restored)
        distances = (metric(restored, given).tolist() for metric in (identity_distance, coarse_psnr))
        fidelities.append(FaceFidelity(*distances))
    return fidelities


def closest_in_identity(crops: Sequence[np.ndarray], versions: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Return for each face the sample whose embedding is nearest to that of the face before. Needs the extra `metrics`.

    Args:
        crops: the faces before, `[S,S,3]` float32 in [0,1].
        versions: samples of all of them, one list of faces a sample.
    """
    from ..evaluation import identity_distance

    chosen = []
    for crop, *samples in zip(crops, *versions, strict=True):
        restored = torch.from_numpy(np.stack(samples)).permute(0, 3, 1, 2)
        given = torch.from_numpy(crop).permute(2, 0, 1).clamp(0, 1).expand_as(restored)
        chosen.append(samples[int(identity_distance(restored, given).argmin())])
    return chosen


def _samples_by_face(restoration: "PhotoRestoration") -> list[list[Image.Image]]:
    count = len(restoration.restored) // max(len(restoration.crops), 1)
    return [restoration.restored[face * count : (face + 1) * count] for face in range(len(restoration.crops))]


def _stack(faces: Sequence[Image.Image]) -> torch.Tensor:
    """Return `[B,3,S,S]` in [0,1]."""
    return torch.stack([pil_to_tensor(face) for face in faces])
