"""Restore many files: read some, restore them together, write them, and go on whatever happens to one."""

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..imaging.files import read_photo, write_photo
from ..imaging.grids import image_grid
from ..imaging.masks import mask_levels
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import split_channels, to_uint8
from ..imaging.tensors import pil_to_tensor
from ..photos.aligned import restore_aligned
from ..photos.restore import restore_photos
from ..photos.result import PhotoRestoration
from ..photos.samples import face_fidelities, face_uncertainties, photo_uncertainty, uncertainty_picture
from ..photos.upscale import Upscaler, share_of
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .files import comparison_path, crops_folder, save_image, uncertainty_path
from .inputs import Source, mask_for
from .jobs import Plan
from .options import RestoreOptions
from .report import FAILURES, FileResult, failed, finished


PIXELS_TOGETHER = 24_000_000  # of the photographs in memory at once, unless a single one is larger
COMPARISON_SIDE = 1600  # longest side of either picture in a comparison


def restore_files(
    pipe: DifFacePipeline,
    plan: Plan,
    options: RestoreOptions,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None = None,
) -> Iterator[FileResult]:
    """Restore every input of the plan and write its results; one record each, as soon as they are written."""
    with tqdm(total=len(plan), unit="file", disable=len(plan) == 1) as progress:
        for read in _read_together(plan, options.sampling.batch_size):
            alone = isinstance(read, FileResult)
            results = [read] if alone else _restore_together(pipe, read, plan, options, background, inpainter)
            for result in results:
                progress.update()
                yield result


def _read_together(sources: Iterable[Source], batch_size: int) -> Iterator[dict[Source, PhotoFile] | FileResult]:
    """Yield the inputs' pictures, as many together as make a batch and fit into memory, and a record for each that fails."""
    together: dict[Source, PhotoFile] = {}
    pixels = 0
    for source in sources:
        try:
            picture = source.read()
        except FAILURES as error:
            yield failed(source, error)
            continue
        area = picture.pixels.shape[0] * picture.pixels.shape[1]
        if together and (len(together) == batch_size or pixels + area > PIXELS_TOGETHER):
            yield together
            together, pixels = {}, 0
        together[source] = picture
        pixels += area
    if together:
        yield together


def _restore_together(
    pipe: DifFacePipeline,
    pictures: dict[Source, PhotoFile],
    plan: Plan,
    options: RestoreOptions,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None,
) -> Iterator[FileResult]:
    started = time.monotonic()
    try:
        restorations = _restore(pipe, pictures, options, background, inpainter)
    except FAILURES as error:
        if len(pictures) == 1:
            yield failed(*pictures, error)
            return
        for source, picture in pictures.items():
            yield from _restore_together(pipe, {source: picture}, plan, options, background, inpainter)
        return
    seconds = (time.monotonic() - started) / len(pictures)
    for (source, picture), restoration in zip(pictures.items(), restorations, strict=True):
        yield _write(source, picture, restoration, plan[source], seconds, options)


def _restore(
    pipe: DifFacePipeline,
    pictures: dict[Source, PhotoFile],
    options: RestoreOptions,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None,
) -> list[PhotoRestoration]:
    sampling = options.sampling
    arrays = [picture.pixels for picture in pictures.values()]
    # Every file starts from the seed itself, so that it comes out the same whatever else is restored with it.
    generators = [torch.Generator().manual_seed(sampling.seed) for _ in arrays]
    if options.aligned:
        call = sampling.of_a_call()
        return restore_aligned(pipe, arrays, generators, sampling.num_samples, options.pick, **call)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no face in photograph")  # said with the file's name instead
        return restore_photos(
            pipe,
            arrays,
            upscale=options.upscale,
            background=background,
            background_blend=share_of(options.background, options.background_blend),
            faces=options.faces if isinstance(options.faces, str) else [options.faces] * len(arrays),
            min_face_size=options.min_face_size,
            batch_size=sampling.batch_size,
            keep_gray=options.keep_gray,
            draw_box=options.draw_box,
            blend=options.blend,
            keep_clean=options.keep_clean,
            match_grain=options.match_grain,
            damage_mask=[_read_damage(source.file, options.damage_mask) for source in pictures],
            inpainter=inpainter,
            generator=generators,
            num_samples=sampling.num_samples,
            pick=options.pick,
            **sampling.of_a_call(),
        )


def _read_damage(file: Path, damage_mask: Path | None) -> np.ndarray | None:
    path = None if damage_mask is None else mask_for(file, damage_mask)
    return None if path is None else mask_levels(read_photo(path).pixels)


def _write(
    source: Source,
    picture: PhotoFile,
    restoration: PhotoRestoration,
    targets: list[Path],
    seconds: float,
    options: RestoreOptions,
) -> FileResult:
    started = time.monotonic()
    details = [{"treatment": asdict(treatment)} for treatment in restoration.treatments]
    try:
        if options.save_crops:
            _save_crops(restoration, crops_folder(targets[0]), options.sampling.num_samples)
        if options.uncertainty:
            told = _report_samples(restoration, uncertainty_path(targets[0]), options.aligned)
            details = [known | more for known, more in zip(details or [{}], told, strict=True)]
        for sample, target in enumerate(targets):
            if options.compare:
                save_image(_compare(picture.pixels, restoration, sample, options.aligned), comparison_path(target))
            write_photo(PhotoFile(np.asarray(restoration.images[sample]), picture.metadata), target)
    except FAILURES as error:
        return failed(source, f"cannot be written: {error}")
    seconds += time.monotonic() - started
    return finished(source, targets, restoration.faces, seconds, details)


def _report_samples(restoration: PhotoRestoration, path: Path, aligned: bool) -> list[dict]:
    """Write the map of uncertainty; return for each face what its samples tell."""
    uncertainties = face_uncertainties(restoration)
    uncertainty = uncertainties[0] if aligned else photo_uncertainty(restoration)
    save_image(Image.fromarray(uncertainty_picture(uncertainty)), path)
    return [
        {"uncertainty": float(values.mean()), **asdict(fidelity)}
        for values, fidelity in zip(uncertainties, face_fidelities(restoration), strict=True)
    ]


def _compare(array: np.ndarray, restoration: PhotoRestoration, sample: int, aligned: bool) -> Image.Image:
    """Put the input, at the result's size or less, beside the result; with the estimate between aligned faces."""
    after = to_uint8(split_channels(restoration.images[sample])[0])
    shrink = min(1.0, COMPARISON_SIDE / max(after.shape[:2]))
    size = (round(after.shape[1] * shrink), round(after.shape[0] * shrink))
    before = Image.fromarray(to_uint8(split_channels(array)[0]))
    columns = {"input": before, "restored": Image.fromarray(after)}
    if aligned:
        columns = {"input": before, "estimate": restoration.estimates[sample], "restored": columns["restored"]}
    return image_grid(
        {
            name: pil_to_tensor(picture.resize(size, Image.Resampling.LANCZOS))[None]
            for name, picture in columns.items()
        }
    )


def _save_crops(restoration: PhotoRestoration, folder: Path, samples: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # of a photograph without a face too: it is done
    for number, crop in enumerate(restoration.crops, start=1):
        save_image(crop, folder / f"{number:02}_input.png")
    for row, (estimate, restored) in enumerate(zip(restoration.estimates, restoration.restored, strict=True)):
        ending = f"_{row % samples + 1}.png" if samples > 1 else ".png"
        save_image(restored, folder / f"{row // samples + 1:02}_restored{ending}")
        if row % samples == 0:
            save_image(estimate, folder / f"{row // samples + 1:02}_estimate.png")
