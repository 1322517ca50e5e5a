"""Scratches, tears and stains: what a mask shows as damaged is filled, faces by a model and the rest by OpenCV."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from ..faces import Face, FaceDetector, YuNetDetector
from ..faces.alignment import warp
from ..faces.compositing import add_changes, keeps_tint, to_gray
from ..faces.crops import AlignedFaces, align_faces, landmarks_in_crops
from ..faces.masks import face_mask
from ..faces.selection import Selection, parse_selection, select_faces
from ..imaging.masks import fit_masks
from ..imaging.pixels import join_channels, split_channels, to_uint8
from ..pipelines.generators import check_generator_type, split_generator
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..pipelines.sampling import Callback
from ..utils.checks import check_integer, check_number
from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from .settings import CallSettings


PLAIN_RADIUS = 3  # of Telea's method, pixels
TOUCHED = 0.01  # share of a pixel of an aligned face from which on it counts as damaged


@dataclass(frozen=True)
class FilledPhoto:
    """A photograph without its damage.

    Attributes:
        image: the photograph, in the form it was given in.
        faces: those whose damage the model filled, in pixels of the photograph.
    """

    image: Image.Image | np.ndarray
    faces: list[Face]


def fill_damage(
    inpainter: DifFaceInpaintPipeline,
    photo: Image.Image | np.ndarray,
    damage_mask: Any,
    detector: FaceDetector | None = None,
    faces: Selection = "all",
    min_face_size: float = MIN_FACE_SIZE,
    batch_size: int = 8,
    keep_gray: str = "auto",
    generator: torch.Generator | None = None,
    preset: str | None = None,
    num_inference_steps: int | None = None,
    start_timestep: int | None = None,
    eta: float | None = None,
    s_noise: float | None = None,
    scheduler: str | None = None,
    gamma: float = 0.5,
    callback_on_step_end: Callback | None = None,
    callback_on_step_end_tensor_inputs: list[str] | None = None,
) -> FilledPhoto:
    """Fill the damage of a photograph; every other pixel stays as it is.

    First all of it is filled from its surroundings (Telea, 2004). In the picture that this gives the faces are found, and
    what is damaged of them is filled by the model.

    Args:
        inpainter: fills the aligned faces.
        photo: see `restore_photo`; one.
        damage_mask: white is damaged; one mask in any form that `DifFaceInpaintPipeline` takes, of any size: it is fitted to
            the photograph.
        detector: finds the faces; `YuNetDetector()` unless given.
        faces: those given by hand (boxes, landmarks, `Face`s) are filled by the model; with any other selection all that
            are found.
        min_face_size: found faces of a narrower box are left to OpenCV, pixels.
        batch_size: faces that go through the networks together.
        keep_gray: see `restore_photo`.
        generator: source of all noise.
        preset: see `DifFaceInpaintPipeline.__call__`, as are the rest.
        num_inference_steps: see there.
        start_timestep: see there.
        eta: see there.
        s_noise: see there.
        scheduler: see there.
        gamma: see there.
        callback_on_step_end: see there.
        callback_on_step_end_tensor_inputs: see there.

    Returns:
        `FilledPhoto`.

    Raises:
        TypeError: `photo` or `damage_mask` is of none of the accepted types.
        ValueError: the mask cannot be used, or leaves nothing of the photograph.
    """
    # 0. Colors [H,W,3], and where they are damaged [H,W]; what the inpainter is called with
    call = take(CallSettings, locals())
    check_number("min_face_size", min_face_size, 0)
    check_integer("batch_size", batch_size, 1, None)
    check_generator_type(generator)
    rgb, alpha = split_channels(photo)
    damage = fit_masks(damage_mask, [rgb.shape[:2]], 0.5, False, name="damage_mask")[0][0].numpy() > 0
    if damage.all():
        raise ValueError("`damage_mask` covers the whole photograph; nothing is left to fill it from.")

    # 1. All of it from its surroundings, so that faces can be found
    plain = fill_plainly(rgb, damage)
    wanted = parse_selection(faces)
    by_hand = not isinstance(wanted, str) and not any(isinstance(entry, int) for entry in wanted)
    detector = YuNetDetector() if detector is None else detector
    chosen = select_faces(to_uint8(plain), detector, faces if by_hand else "all", min_face_size)
    side = inpainter.model_size[0]
    aligned = align_faces(plain, chosen, side, keeps_tint(plain, keep_gray))

    # 2. What is damaged of the faces by the model
    holes = [warp(damage.astype(np.float32), matrix, (side, side)) > TOUCHED for matrix in aligned.photo_to_faces]
    filled = fill_faces(inpainter, aligned, holes, batch_size, generator, gamma, call)
    canvas = plain.copy()
    masks = [face_mask(landmarks, side) for landmarks in landmarks_in_crops(aligned)]
    changes = [face - crop for face, crop in zip(filled, aligned.crops, strict=True)]
    add_changes(canvas, changes, masks, aligned.photo_to_faces)
    return FilledPhoto(
        join_channels(np.where(damage[..., None], canvas, rgb), alpha, like=photo, gray=aligned.keep_tint),
        [face for face, hole in zip(chosen, holes, strict=True) if hole.any()],
    )


def fill_plainly(rgb: np.ndarray, damage: np.ndarray) -> np.ndarray:
    """Fill `[H,W,3]`, uint8 or uint16, where `damage` `[H,W]` is true, from the surroundings (Telea, 2004)."""
    holes = damage.astype(np.uint8)
    channels = [
        cv2.inpaint(np.ascontiguousarray(channel), holes, PLAIN_RADIUS, cv2.INPAINT_TELEA)
        for channel in np.moveaxis(rgb, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def fill_faces(
    inpainter: DifFaceInpaintPipeline,
    aligned: AlignedFaces,
    holes: list[np.ndarray],
    batch_size: int,
    generator: torch.Generator | None,
    gamma: float,
    call: CallSettings,
) -> list[np.ndarray]:
    """Return the crops, `[S,S,3]` float32 in [0,1]; what is true of their `holes`, `[S,S]`, is filled by the model."""
    touched = [index for index, hole in enumerate(holes) if hole.any()]
    generators = split_generator(generator, len(touched)) if generator is not None and touched else None
    filled = list(aligned.crops)
    for start in range(0, len(touched), batch_size):
        batch = touched[start : start + batch_size]
        answer = inpainter(
            np.stack([aligned.crops[index] for index in batch]),
            np.stack([holes[index] for index in batch])[..., None],
            generator=None if generators is None else generators[start : start + batch_size],
            output_type="np",
            gamma=gamma,
            **vars(call),
        )
        for index, face in zip(batch, np.asarray(answer.images), strict=True):
            filled[index] = to_gray(face) if aligned.keep_tint else face
    return filled
