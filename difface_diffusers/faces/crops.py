"""The faces of a photograph cut out upright, and what became of them put back."""

from dataclasses import dataclass

import cv2
import numpy as np

from .alignment import align, compose, invert, scale_of, transform, warp
from .compositing import to_gray
from .detection import Face


BOX_COLOR = (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class AlignedFaces:
    """The faces of a photograph, cut out upright.

    Attributes:
        photo_size: height and width of the photograph, pixels.
        faces: where they are in the photograph.
        photo_to_faces: per face the matrix `[2,3]` into the aligned face; for the convention see `faces.alignment`.
        crops: per face `[S,S,3]`, RGB float32 in [0,1], S the model's size.
        keep_tint: whether the photograph keeps its colors, so that only the brightness of its faces changes.
    """

    photo_size: tuple[int, int]
    faces: list[Face]
    photo_to_faces: list[np.ndarray]
    crops: list[np.ndarray]
    keep_tint: bool


def align_faces(rgb: np.ndarray, faces: list[Face], face_size: int, keep_tint: bool) -> AlignedFaces:
    """Cut the faces out of a photograph, RGB `[H,W,3]` uint8 or uint16, upright and of `face_size` pixels."""
    photo_to_faces = [align(face.landmarks, face_size) for face in faces]
    crops = cut_out(rgb, photo_to_faces, face_size, keep_tint)
    return AlignedFaces(rgb.shape[:2], faces, photo_to_faces, crops, keep_tint)


def cut_out(rgb: np.ndarray, to_faces: list[np.ndarray], face_size: int, keep_tint: bool) -> list[np.ndarray]:
    """Return the crops, see `AlignedFaces`, of a picture `[H,W,3]`, uint8 or uint16; `to_faces` lead from it to them."""
    scale = np.float32(np.iinfo(rgb.dtype).max)
    crops = [warp(rgb, to_face, (face_size, face_size)) / scale for to_face in to_faces]
    return [to_gray(crop) for crop in crops] if keep_tint else crops


def outline_faces(canvas: np.ndarray, aligned: AlignedFaces) -> None:
    """Draw the outline of every aligned face into the enlarged photograph, RGB `[H,W,3]` uint8 or uint16, in place."""
    color = [share * np.iinfo(canvas.dtype).max for share in BOX_COLOR]
    for canvas_to_face, crop in zip(canvas_to_faces(canvas, aligned), aligned.crops, strict=True):
        square = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) * len(crop)
        outline = np.rint(transform(square, invert(canvas_to_face))).astype(np.int32)
        thickness = max(1, round(len(crop) / scale_of(canvas_to_face) / 100))
        cv2.polylines(canvas, [outline], isClosed=True, color=color, thickness=thickness)


def landmarks_in_crops(aligned: AlignedFaces) -> list[np.ndarray]:
    """Return the landmarks of every face in its own crop, `[5,2]`, pixels."""
    return [
        transform(face.landmarks, photo_to_face)
        for face, photo_to_face in zip(aligned.faces, aligned.photo_to_faces, strict=True)
    ]


def canvas_to_faces(canvas: np.ndarray, aligned: AlignedFaces) -> list[np.ndarray]:
    """Return per face the matrix `[2,3]` from pixels of the enlarged photograph to those of its crop."""
    to_photo = canvas_to_photo(canvas.shape[:2], aligned.photo_size)
    return [compose(to_photo, photo_to_face) for photo_to_face in aligned.photo_to_faces]


def canvas_to_photo(canvas_size: tuple[int, int], photo_size: tuple[int, int]) -> np.ndarray:
    """Return the matrix `[2,3]` from pixels of the enlarged photograph to its own; sizes are (height, width)."""
    return np.column_stack([np.diag([photo_size[1] / canvas_size[1], photo_size[0] / canvas_size[0]]), np.zeros(2)])
