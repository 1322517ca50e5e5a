"""Restored faces put back into their photograph, as far as each needs it and so that nobody sees where."""

import numpy as np

from ..faces.compositing import add_changes, match_color, to_gray
from ..faces.crops import AlignedFaces, canvas_to_faces, cut_out, landmarks_in_crops
from ..faces.grain import add_grain
from ..faces.masks import fitting_mask
from .treatment import FaceTreatment


def put_back(
    canvas: np.ndarray,
    aligned: AlignedFaces,
    estimates: list[np.ndarray],
    restored: list[np.ndarray],
    treatments: list[FaceTreatment],
    match_grain: str,
) -> None:
    """Add to the enlarged photograph, in place, the changes to its faces and the grain that they lost.

    What changes is the face as the enlarged photograph shows it, for a network that enlarges draws detail of its own.

    Args:
        canvas: RGB `[H,W,3]`, uint8 or uint16.
        aligned: the faces before.
        estimates: per face what the estimator answered, `[S,S,3]` float32 in [0,1].
        restored: per face what the prior made of it, in the colors of the photograph.
        treatments: per face how much of both is put back.
        match_grain: see `restore_photo`.
    """
    if not aligned.crops:
        return
    matrices = canvas_to_faces(canvas, aligned)
    shown = cut_out(canvas, matrices, len(aligned.crops[0]), aligned.keep_tint)
    changes, masks = [], []
    for crop, estimate, face, before, treatment, landmarks in zip(
        aligned.crops,
        estimates,
        restored,
        shown,
        treatments,
        landmarks_in_crops(aligned),
        strict=True,
    ):
        after = treatment.apply(before, fit_in(estimate, crop, aligned.keep_tint), face)
        changes.append(after - before)
        masks.append(fitting_mask(landmarks, after - before))
    add_changes(canvas, changes, masks, matrices)
    if match_grain == "auto":
        enlarged = canvas.shape[0] / aligned.photo_size[0]
        smoothed = [mask * bool(treatment.repaired) for mask, treatment in zip(masks, treatments, strict=True)]
        add_grain(canvas, smoothed, matrices, enlarged)


def fit_in(face: np.ndarray, crop: np.ndarray, keep_tint: bool) -> np.ndarray:
    """Return a face `[S,S,3]` in the colors that its photograph has there, within [0,1]."""
    return np.clip(match_color(to_gray(face) if keep_tint else face, crop), 0, 1)
