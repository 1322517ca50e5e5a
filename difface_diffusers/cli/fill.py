"""Fill the holes of many files: read, fill, write, and go on whatever happens to one."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..imaging.files import read_photo, write_photo
from ..imaging.masks import black_pixels, fit_masks, mask_levels
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import split_channels
from ..photos.aligned import fill_aligned
from ..photos.damage import FilledPhoto, fill_damage
from ..pipelines.generators import split_generator
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .inputs import Source, mask_for
from .jobs import Plan
from .options import InpaintOptions
from .report import FAILURES, FileResult, failed, finished


def fill_files(pipe: DifFaceInpaintPipeline, plan: Plan, options: InpaintOptions) -> Iterator[FileResult]:
    """Fill every input of the plan and write its results; one record each, in the order of the plan."""
    for source, targets in tqdm(plan.items(), unit="file", disable=len(plan) == 1):
        yield _fill_file(pipe, source, targets, options)


def _fill_file(
    pipe: DifFaceInpaintPipeline, source: Source, targets: list[Path], options: InpaintOptions
) -> FileResult:
    started = time.monotonic()
    generators = split_generator(torch.Generator().manual_seed(options.sampling.seed), len(targets))
    try:
        picture = source.read()
        mask = _read_mask(source.file, picture.pixels, options)
        filled = [_fill(pipe, picture.pixels, mask, generator, options) for generator in generators]
    except FAILURES as error:
        return failed(source, error)
    try:
        for target, sample in zip(targets, filled, strict=True):
            write_photo(PhotoFile(np.asarray(sample.image), picture.metadata), target)
    except FAILURES as error:
        return failed(source, f"cannot be written: {error}")
    return finished(source, targets, filled[0].faces, time.monotonic() - started)


def _read_mask(file: Path, pixels: np.ndarray, options: InpaintOptions) -> torch.Tensor:
    """Return what is to be filled of a picture, `[1,H,W]`, 1 where it is."""
    if options.mask is None:
        return black_pixels(torch.from_numpy(split_channels(pixels)[0].astype(np.int32)).permute(2, 0, 1))
    path = mask_for(file, options.mask)
    if path is None:
        raise ValueError(f"{options.mask} holds no mask of its name")
    levels = mask_levels(read_photo(path).pixels)
    return fit_masks(levels, [pixels.shape[:2]], 0.5, options.invert_mask, name="--mask")[0]


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
