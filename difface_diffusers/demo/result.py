"""What became of a photograph: its faces, put back as many of them as wanted, and where its samples differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ..faces.compositing import keeps_tint, to_gray
from ..faces.crops import align_faces
from ..imaging.grids import image_grid
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import join_channels, split_channels, to_uint8
from ..imaging.tensors import pil_to_tensor
from ..photos.enlarging import fill_invisible
from ..photos.pasting import put_back
from ..photos.result import PhotoRestoration
from ..photos.samples import BRIGHTEST_UNCERTAINTY, add_maps, face_uncertainties, heat_map
from ..photos.treatment import FaceTreatment, choose_treatment
from .files import read_array


DARKENED = 0.3  # share of its brightness that the upload keeps below a heat map
VIEW_SIDE = 2048  # longest side of what the browser shows, pixels


@dataclass(frozen=True)
class Restored:
    """The faces of an upload, and the upload enlarged.

    Attributes:
        path: of the upload.
        enlarged: file of the upload enlarged, as `write_array` writes it: `[H,W,3]`, or `[H,W,4]` with alpha.
        restoration: its faces before and after; the pictures in it are not used.
        samples: restorations per face.
        keep_gray: see `restore_photo`.
        blend: see there.
        keep_clean: see there.
        clean_damage: of the pipeline, see `DifFacePipeline`.
    """

    path: str
    enlarged: str
    restoration: PhotoRestoration
    samples: int
    keep_gray: str
    blend: float
    keep_clean: bool
    clean_damage: float | None

    def faces_of(self, sample: int) -> list[Image.Image]:
        """Return the restored faces of one sample, counted from 0."""
        return self.restoration.restored[sample :: self.samples]

    @cached_property
    def treatments(self) -> list[FaceTreatment]:
        """How far each face is changed."""
        befores, guesses = self.restoration.crops, self.restoration.estimates[:: self.samples]
        return [
            choose_treatment(_levels(before), _levels(guess), self.clean_damage, self.keep_clean, self.blend)
            for before, guess in zip(befores, guesses, strict=True)
        ]


def paste(photo: PhotoFile, result: Restored, chosen: Sequence[int], sample: int) -> tuple[PhotoFile, np.ndarray]:
    """Put some of the restored faces back into the enlarged photograph.

    Args:
        photo: the upload.
        result: what became of its faces.
        chosen: the faces, counted from the left and from 0.
        sample: counted from 0.

    Returns:
        The photograph with the faces and its metadata, and the colors of the same only enlarged, RGB `[H,W,3]`, uint8 or
        uint16.
    """
    visible = fill_invisible(*split_channels(photo.pixels))
    before, alpha = split_channels(read_array(result.enlarged))
    after = before.copy()
    keep_tint = keeps_tint(visible, result.keep_gray)
    if chosen:
        restored = [_levels(result.faces_of(sample)[index]) for index in chosen]
        estimates = [_levels(result.restoration.estimates[index * result.samples]) for index in chosen]
        faces = [result.restoration.faces[index] for index in chosen]
        aligned = align_faces(visible, faces, len(restored[0]), keep_tint)
        put_back(after, aligned, estimates, restored, [result.treatments[index] for index in chosen], "auto")
    pixels = np.asarray(join_channels(after, alpha, like=photo.pixels, gray=keep_tint))
    return PhotoFile(pixels, photo.metadata), before


def _levels(face: Image.Image) -> np.ndarray:
    return np.asarray(face, np.float32) / 255


def view(pixels: np.ndarray, side: int = VIEW_SIDE) -> Image.Image:
    """Return a picture as a browser shows it: 8 bits of RGB, at most `side` pixels long."""
    picture = Image.fromarray(to_uint8(split_channels(pixels)[0]))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def face_sheets(result: Restored, sample: int) -> list[Image.Image]:
    """Return a picture of each face: before, as the estimator guesses it, and restored."""
    columns = {
        "before": result.restoration.crops,
        "first guess": result.restoration.estimates[:: result.samples],
        "restored": result.faces_of(sample),
    }
    return [
        image_grid({name: pil_to_tensor(face)[None] for name, face in zip(columns, row, strict=True)})
        for row in zip(*columns.values(), strict=True)
    ]


def draw_uncertainty(photo: PhotoFile, result: Restored) -> Image.Image:
    """Draw the standard deviation of each pixel over the samples as a heat map over the darkened upload, of its size."""
    uncertainties = face_uncertainties(result.restoration)
    rgb = to_uint8(split_channels(photo.pixels)[0])
    heat = np.zeros((*rgb.shape[:2], 1), np.uint8)
    add_maps(heat, result.restoration, [np.minimum(values / BRIGHTEST_UNCERTAINTY, 1) for values in uncertainties])
    dark = np.rint(to_gray(rgb) * DARKENED)
    return view(np.maximum(dark, heat_map(heat)).astype(np.uint8))
