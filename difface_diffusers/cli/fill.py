"""Fill the holes of many files: read, fill, write, and go on whatever happens to one."""

import argparse
import time
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ..faces.compositing import to_gray
from ..imaging.files import load_image, read_photo, write_photo
from ..imaging.masks import black_pixels, fit_masks
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import join_channels, split_channels
from ..photos.damage import FilledPhoto, fill_damage
from ..pipelines.pipeline_difface import split_generator
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .files import mask_for
from .report import FileResult, report_done
from .sampling import sampling_of


def fill_files(
    pipe: DifFaceInpaintPipeline, plan: dict[Path, list[Path]], args: argparse.Namespace
) -> list[FileResult]:
    """Fill every file of the plan and write its results; one record each, in the order of the plan."""
    progress = tqdm(plan.items(), unit="file", disable=len(plan) == 1)
    return [_fill_file(pipe, file, targets, args) for file, targets in progress]


def _fill_file(pipe: DifFaceInpaintPipeline, file: Path, targets: list[Path], args: argparse.Namespace) -> FileResult:
    started = time.monotonic()
    generators = split_generator(torch.Generator().manual_seed(args.seed), len(targets))
    fill = _fill_face if args.aligned else _fill_photo
    try:
        picture = read_photo(file)
        mask = _read_mask(file, picture.pixels, args)
        filled = [fill(pipe, picture.pixels, mask, generator, args) for generator in generators]
    except (OSError, ValueError, MemoryError, torch.OutOfMemoryError, cv2.error) as error:
        return FileResult(str(file), error=str(error))
    try:
        for target, sample in zip(targets, filled, strict=True):
            write_photo(PhotoFile(np.asarray(sample.image), picture.metadata), target)
    except (OSError, ValueError) as error:
        return FileResult(str(file), error=f"cannot be written: {error}")
    return report_done(file, targets, filled[0].faces, time.monotonic() - started, args.aligned)


def _read_mask(file: Path, pixels: np.ndarray, args: argparse.Namespace) -> torch.Tensor:
    """Return what is to be filled of a picture, `[1,H,W]`, 1 where it is."""
    if args.mask is None:
        return black_pixels(torch.from_numpy(split_channels(pixels)[0].astype(np.int32)).permute(2, 0, 1))
    path = mask_for(file, args.mask)
    if path is None:
        raise ValueError(f"{args.mask} holds no mask of its name")
    return fit_masks(load_image(path), [pixels.shape[:2]], 0.5, args.invert_mask, name="--mask")[0]


def _fill_photo(
    pipe: DifFaceInpaintPipeline,
    pixels: np.ndarray,
    mask: torch.Tensor,
    generator: torch.Generator,
    args: argparse.Namespace,
) -> FilledPhoto:
    return fill_damage(
        pipe,
        pixels,
        mask,
        min_face_size=args.min_face_size,
        batch_size=args.batch_size,
        keep_gray=args.keep_gray,
        generator=generator,
        **sampling_of(args),
    )


def _fill_face(
    pipe: DifFaceInpaintPipeline,
    pixels: np.ndarray,
    mask: torch.Tensor,
    generator: torch.Generator,
    args: argparse.Namespace,
) -> FilledPhoto:
    rgb, alpha = split_channels(pixels)
    levels = np.iinfo(rgb.dtype).max
    answer = pipe(rgb.astype(np.float32) / levels, mask, generator=generator, output_type="np", **sampling_of(args))
    face = cast(np.ndarray, answer.images)[0]
    gray = args.keep_gray != "off" and not np.ptp(rgb, axis=-1).any()
    face = np.rint((to_gray(face) if gray else face) * levels).astype(rgb.dtype)
    return FilledPhoto(join_channels(face, alpha, like=pixels, gray=gray), faces=[])
