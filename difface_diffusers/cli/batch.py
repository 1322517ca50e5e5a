"""Restore many files: read some, restore them together, write them, and go on whatever happens to one."""

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..imaging.files import load_image, read_photo, write_photo
from ..imaging.grids import sheet
from ..imaging.metadata import PhotoFile
from ..imaging.pixels import join_channels, split_channels, to_uint8
from ..imaging.tensors import pil_to_tensor
from ..photos.restore import faces_to_pil, restore_photo, split_over_faces
from ..photos.result import PhotoRestoration
from ..photos.samples import closest_in_identity, face_fidelities, face_uncertainties, heat_map, photo_uncertainty
from ..photos.upscale import Upscaler
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .files import comparison_path, crops_folder, mask_for, save_image, uncertainty_path
from .report import FileResult, report_done
from .sampling import sampling_of


PIXELS_TOGETHER = 24_000_000  # of the photographs in memory at once, unless a single one is larger
BRIGHTEST_UNCERTAINTY = 0.15  # standard deviation, of a scale of 1, that the map shows as its brightest colour
COMPARISON_SIDE = 1600  # longest side of either picture in a comparison


def restore_files(
    pipe: DifFacePipeline,
    plan: dict[Path, list[Path]],
    args: argparse.Namespace,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None = None,
) -> list[FileResult]:
    """Restore every file of the plan and write its results; one record each, in the order of the plan."""
    results: dict[Path, FileResult] = {}
    with tqdm(total=len(plan), unit="file", disable=len(plan) == 1) as progress:
        for pictures in _read_together(plan, args.batch_size, results):
            results |= _restore_together(pipe, pictures, plan, args, background, inpainter)
            progress.update(len(results) - progress.n)
    return [results[file] for file in plan]


def _read_together(
    files: Iterable[Path], batch_size: int, results: dict[Path, FileResult]
) -> Iterator[dict[Path, PhotoFile]]:
    """Yield the files' pictures, as many together as make a batch and fit into memory; record those that fail."""
    together: dict[Path, PhotoFile] = {}
    pixels = 0
    for file in files:
        try:
            picture = read_photo(file)
        except (OSError, ValueError) as error:
            results[file] = FileResult(str(file), error=str(error))
            continue
        area = picture.pixels.shape[0] * picture.pixels.shape[1]
        if together and (len(together) == batch_size or pixels + area > PIXELS_TOGETHER):
            yield together
            together, pixels = {}, 0
        together[file] = picture
        pixels += area
    if together:
        yield together


def _restore_together(
    pipe: DifFacePipeline,
    pictures: dict[Path, PhotoFile],
    plan: dict[Path, list[Path]],
    args: argparse.Namespace,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None,
) -> dict[Path, FileResult]:
    started = time.monotonic()
    arrays = [picture.pixels for picture in pictures.values()]
    try:
        if args.aligned:
            restorations = _restore_aligned(pipe, arrays, args)
        else:
            masks = [_read_damage(file, args.damage_mask) for file in pictures]
            restorations = _restore_photos(pipe, arrays, masks, args, background, inpainter)
    except (OSError, ValueError, MemoryError, torch.OutOfMemoryError, cv2.error) as error:
        if len(pictures) == 1:
            return {file: FileResult(str(file), error=str(error)) for file in pictures}
        alone = [
            _restore_together(pipe, {file: pictures[file]}, plan, args, background, inpainter) for file in pictures
        ]
        return {file: result for single in alone for file, result in single.items()}
    seconds = (time.monotonic() - started) / len(pictures)
    return {
        file: _write(file, picture, restoration, plan[file], seconds, args)
        for (file, picture), restoration in zip(pictures.items(), restorations, strict=True)
    }


def _read_damage(file: Path, damage_mask: Path | None) -> Image.Image | None:
    path = None if damage_mask is None else mask_for(file, damage_mask)
    return None if path is None else load_image(path)


def _restore_photos(
    pipe: DifFacePipeline,
    arrays: list[np.ndarray],
    masks: list[Image.Image | None],
    args: argparse.Namespace,
    background: str | Upscaler,
    inpainter: DifFaceInpaintPipeline | None,
) -> list[PhotoRestoration]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no face in photograph")  # said with the file's name instead
        restorations = restore_photo(
            pipe,
            arrays,
            upscale=args.upscale,
            background=background,
            faces=args.faces if isinstance(args.faces, str) else [args.faces] * len(arrays),
            min_face_size=args.min_face_size,
            batch_size=args.batch_size,
            keep_gray=args.keep_gray,
            draw_box=args.draw_box,
            damage_mask=masks,
            inpainter=inpainter,
            generator=[torch.Generator().manual_seed(args.seed) for _ in arrays],
            num_samples=args.samples,
            pick=args.pick,
            **sampling_of(args),
        )
    return cast(list[PhotoRestoration], restorations)


def _restore_aligned(
    pipe: DifFacePipeline, arrays: list[np.ndarray], args: argparse.Namespace
) -> list[PhotoRestoration]:
    channels = [split_channels(array) for array in arrays]
    crops = [rgb.astype(np.float32) / np.iinfo(rgb.dtype).max for rgb, _ in channels]
    # Every file starts from the seed itself, so that it comes out the same whatever else is restored with it.
    seeded = [torch.Generator().manual_seed(args.seed) for _ in arrays]
    generators = split_over_faces(seeded, [args.samples] * len(arrays))
    answer = pipe(crops, generator=generators, output_type="pt", num_samples=args.samples, **sampling_of(args))
    restorations = []
    for index, (array, (rgb, alpha)) in enumerate(zip(arrays, channels, strict=True)):
        rows = slice(index * args.samples, (index + 1) * args.samples)
        restored, estimates = (
            [face.permute(1, 2, 0).cpu().numpy() for face in faces[rows]]
            for faces in (answer.images, answer.estimates)
        )
        levels = np.iinfo(rgb.dtype).max
        chosen = restored
        if args.pick is not None:
            chosen = closest_in_identity([crops[index]], [[face] for face in restored])
        images = [
            join_channels(np.rint(face * levels).astype(rgb.dtype), alpha, like=array, gray=False) for face in chosen
        ]
        faces = (faces_to_pil(row) for row in ([crops[index]], estimates, restored))
        restorations.append(PhotoRestoration(images, [], *faces, photo_size=rgb.shape[:2]))
    return restorations


def _write(
    file: Path,
    picture: PhotoFile,
    restoration: PhotoRestoration,
    targets: list[Path],
    seconds: float,
    args: argparse.Namespace,
) -> FileResult:
    started = time.monotonic()
    details = []
    try:
        for sample, target in enumerate(targets):
            write_photo(PhotoFile(np.asarray(restoration.images[sample]), picture.metadata), target)
            if args.compare:
                save_image(_compare(picture.pixels, restoration, sample, args.aligned), comparison_path(target))
        if args.save_crops:
            _save_crops(restoration, crops_folder(targets[0]), args.samples)
        if args.uncertainty:
            details = _report_samples(restoration, uncertainty_path(targets[0]), args.aligned)
    except (OSError, ValueError) as error:
        return FileResult(str(file), error=f"cannot be written: {error}")
    seconds += time.monotonic() - started
    return report_done(file, targets, restoration.faces, seconds, args.aligned, details)


def _report_samples(restoration: PhotoRestoration, path: Path, aligned: bool) -> list[dict]:
    """Write the map of uncertainty; return for each face what its samples tell."""
    uncertainties = face_uncertainties(restoration)
    uncertainty = uncertainties[0] if aligned else photo_uncertainty(restoration)
    levels = np.rint(np.clip(uncertainty / BRIGHTEST_UNCERTAINTY, 0, 1) * 255).astype(np.uint8)
    save_image(Image.fromarray(heat_map(levels)), path)
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
    return sheet(
        {
            name: pil_to_tensor(picture.resize(size, Image.Resampling.LANCZOS))[None]
            for name, picture in columns.items()
        }
    )


def _save_crops(restoration: PhotoRestoration, folder: Path, samples: int) -> None:
    for number, crop in enumerate(restoration.crops, start=1):
        save_image(crop, folder / f"{number:02}_input.png")
    for row, (estimate, restored) in enumerate(zip(restoration.estimates, restoration.restored, strict=True)):
        ending = f"_{row % samples + 1}.png" if samples > 1 else ".png"
        save_image(restored, folder / f"{row // samples + 1:02}_restored{ending}")
        if row % samples == 0:
            save_image(estimate, folder / f"{row // samples + 1:02}_estimate.png")
