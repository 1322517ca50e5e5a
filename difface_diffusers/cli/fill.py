"""Fill the holes of many files: read, fill, write, and go on whatever happens to one."""

import time
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ..imaging.files import load_image, read_photo, write_photo
from ..imaging.masks import black_pixels, fit_masks
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import split_channels
from ..photos.aligned import fill_aligned
from ..photos.damage import FilledPhoto, fill_damage
from ..pipelines.generators import split_generator
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .files import mask_for
from .options import InpaintOptions
from .report import FileResult, report_done


def fill_files(
    pipe: DifFaceInpaintPipeline, plan: dict[Path, list[Path]], options: InpaintOptions
) -> list[FileResult]:
    """Fill every file of the plan and write its results; one record each, in the order of the plan."""
    progress = tqdm(plan.items(), unit="file", disable=len(plan) == 1)
    return [_fill_file(pipe, file, targets, options) for file, targets in progress]


def _fill_file(pipe: DifFaceInpaintPipeline, file: Path, targets: list[Path], options: InpaintOptions) -> FileResult:
    started = time.monotonic()
    generators = split_generator(torch.Generator().manual_seed(options.sampling.seed), len(targets))
    try:
        picture = read_photo(file)
        mask = _read_mask(file, picture.pixels, options)
        filled = [_fill(pipe, picture.pixels, mask, generator, options) for generator in generators]
    except (OSError, ValueError, MemoryError, torch.OutOfMemoryError, cv2.error) as error:
        return FileResult(str(file), error=str(error))
    try:
        for target, sample in zip(targets, filled, strict=True):
            write_photo(PhotoFile(np.asarray(sample.image), picture.metadata), target)
    except (OSError, ValueError) as error:
        return FileResult(str(file), error=f"cannot be written: {error}")
    return report_done(file, targets, filled[0].faces, time.monotonic() - started, options.aligned)


def _read_mask(file: Path, pixels: np.ndarray, options: InpaintOptions) -> torch.Tensor:
    """Return what is to be filled of a picture, `[1,H,W]`, 1 where it is."""
    if options.mask is None:
        return black_pixels(torch.from_numpy(split_channels(pixels)[0].astype(np.int32)).permute(2, 0, 1))
    path = mask_for(file, options.mask)
    if path is None:
        raise ValueError(f"{options.mask} holds no mask of its name")
    return fit_masks(load_image(path), [pixels.shape[:2]], 0.5, options.invert_mask, name="--mask")[0]


def _fill(
    pipe: DifFaceInpaintPipeline,
    pixels: np.ndarray,
    mask: torch.Tensor,
    generator: torch.Generator,
    options: InpaintOptions,
) -> FilledPhoto:
    sampling = options.sampling
    if options.aligned:
        return fill_aligned(pipe, pixels, mask, options.keep_gray, generator, **sampling.of_a_call())
    return fill_damage(
        pipe,
        pixels,
        mask,
        min_face_size=options.min_face_size,
        batch_size=sampling.batch_size,
        keep_gray=options.keep_gray,
        generator=generator,
        **sampling.of_a_call(),
    )
