"""Draw every face of a photograph before and after: the good and the bad ones, none chosen.

    python -m examples.make_contact_sheet PHOTO --output SHEET [--model FOLDER]

Faces are cut out upright, from the photograph as it is enlarged without restoration and from the restored one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.models import add_model_option, load_pipeline
from difface_diffusers import DifFacePipeline, PhotoRestoration, restore_photo
from difface_diffusers.faces.alignment import align, warp
from difface_diffusers.imaging.files import load_image
from difface_diffusers.imaging.grids import image_grid


SEED = 0
SIDE = 150  # of a face on the sheet, pixels
BLOCKS = 5  # pairs in a row


def cut_out(photo: Image.Image, landmarks: Sequence[np.ndarray]) -> torch.Tensor:
    """Return the upright faces `[B,3,SIDE,SIDE]` in [0,1] of a photograph."""
    pixels = np.asarray(photo.convert("RGB"))
    faces = np.stack([warp(pixels, align(points, SIDE), (SIDE, SIDE)) for points in landmarks])
    return torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255


def restore(pipe: DifFacePipeline, photo: Image.Image, upscale: int = 2) -> tuple[Image.Image, PhotoRestoration]:
    """Return a photograph enlarged without restoration, and restored."""
    plain = restore_photo(pipe, photo, upscale=upscale, faces=[]).image
    return plain, restore_photo(pipe, photo, upscale=upscale, generator=torch.Generator().manual_seed(SEED))


def draw(pipe: DifFacePipeline, photo: Image.Image) -> Image.Image:
    """Restore a photograph and lay its faces out in pairs, from left to right as they stand in it."""
    plain, result = restore(pipe, photo)
    landmarks = [face.landmarks * (plain.width / photo.width) for face in result.faces]
    return image_grid({"before": cut_out(plain, landmarks), "after": cut_out(result.image, landmarks)}, BLOCKS)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description="Draw every face of a photograph before and after its restoration.")
    parser.add_argument("photo", type=Path, help="a photograph with faces")
    parser.add_argument("--output", type=Path, required=True, help="the picture to write")
    add_model_option(parser)
    args = parser.parse_args(argv)
    draw(load_pipeline(args.model, DifFacePipeline), load_image(args.photo)).save(args.output, quality=90)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
