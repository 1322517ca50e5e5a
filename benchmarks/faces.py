"""The faces that benchmarks measure on: read, degraded by a seed, and restored in batches."""

import argparse
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm import tqdm

from difface_diffusers import DifFacePipeline
from difface_diffusers.degradation.blind import DegradationRanges, degrade
from difface_diffusers.imaging.files import load_image
from difface_diffusers.training.data import read_face
from difface_diffusers.training.sources import IMAGE_SUFFIXES
from difface_diffusers.utils.listing import list_files

from .models import add_model_option
from .reports import saved_defaults


HALVES = {"tuning": slice(0, None, 2), "reporting": slice(1, None, 2)}
BLIND = DegradationRanges()  # everything that an estimator is trained to undo


def load_faces(
    folder: Path, size: int, limit: int | None = None, half: str | None = None, names: str = "*"
) -> torch.Tensor:
    """Read images of a folder, in the order of their names.

    Args:
        folder: Holds them.
        size: Side that they are brought to, pixels.
        limit: How many of those that are left; `None` for all.
        half: "tuning" for every second of those that match, from the first; "reporting" for the others; `None` for both.
        names: Pattern that their names match, as "ffhq_*".

    Returns:
        RGB `[B,3,size,size]` in [0, 1], float32.

    Raises:
        ValueError: No image is left, or one cannot be read.
    """
    found = list_files(folder, IMAGE_SUFFIXES, recursive=False)
    matching = [path for path in found if fnmatch(path.name, names)]
    paths = matching[HALVES[half] if half else slice(None)][:limit]
    if not paths:
        raise ValueError(
            f"`data` must be a folder of images ({', '.join(IMAGE_SUFFIXES)}), found {len(found)} in {folder}, {len(matching)}"
            f" of them named {names!r}, and none is left"
        )
    return torch.stack([torch.from_numpy(read_face(path, size)).permute(2, 0, 1) for path in paths])


def load_named_faces(folder: Path, size: int, names: Sequence[str]) -> torch.Tensor:
    """Read the images of a folder that have these names, without their suffixes; see `load_faces`.

    Raises:
        ValueError: A name has no image, or one that cannot be read.
    """
    paths = {path.stem: path for path in list_files(folder, IMAGE_SUFFIXES, recursive=False)}
    if missing := [name for name in names if name not in paths]:
        raise ValueError(f"--data {folder} lacks {len(missing)} of {len(names)} faces, such as {missing[0]}")
    return torch.stack([torch.from_numpy(read_face(paths[name], size)).permute(2, 0, 1) for name in names])


def load_chosen_faces(args: argparse.Namespace, size: int) -> torch.Tensor:
    """Read what the options of `add_face_options` choose, as `load_faces` does."""
    return load_faces(args.data, size, args.limit, args.half, args.names)


def sample_faces(folder: Path, count: int, seed: int) -> list[np.ndarray]:
    """Read `count` images of a folder and those below it, `[H,W,3]` uint8, by chance; the same again where there are less.

    Raises:
        ValueError: There is no image.
    """
    files = list_files(folder, IMAGE_SUFFIXES, recursive=True)
    if not files:
        raise ValueError(f"--data {folder} holds no image")
    chosen = np.resize(np.random.default_rng(seed).permutation(len(files)), count)
    return [np.asarray(load_image(files[index]).convert("RGB")) for index in chosen]


def degrade_faces(clean: torch.Tensor, seed: int, ranges: DegradationRanges = BLIND) -> torch.Tensor:
    """Degrade each of `[B,3,S,S]`; the i-th depends on `seed` and i alone."""
    faces = [
        degrade(face, ranges, np.random.default_rng([seed, index]))
        for index, face in enumerate(clean.permute(0, 2, 3, 1).contiguous().numpy())
    ]
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()


def restore(
    pipe: DifFacePipeline, degraded: torch.Tensor, batch_size: int, *conditions: torch.Tensor, **settings: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Restore `[B,3,S,S]` with one generator a face, seeded by its index.

    `conditions` are what else the pipeline takes for each face, such as the masks of one that fills holes, and `settings`
    its other arguments.

    Returns:
        The restorations and the estimator's answers, both RGB `[B,3,S,S]` in [0, 1] on the CPU.
    """
    pipe.set_progress_bar_config(disable=True)
    images, estimates = [], []
    for indices in tqdm(torch.arange(len(degraded)).split(batch_size), desc="restoring", leave=False):
        generators = [torch.Generator().manual_seed(int(index)) for index in indices]
        # "pt" and equal sizes: two tensors
        inputs = [batch[indices] for batch in (degraded, *conditions)]
        output = cast(Any, pipe)(*inputs, generator=generators, output_type="pt", **settings)
        images.append(output.images.cpu())
        estimates.append(output.estimates.cpu())
    return torch.cat(images), torch.cat(estimates)


def with_parts(pipe: DifFacePipeline, **parts: Any) -> DifFacePipeline:
    """Return a pipeline with the same defaults and components, but for those that are given."""
    return DifFacePipeline(**{**pipe.components, **parts}, **saved_defaults(pipe))


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark on faces takes."""
    add_model_option(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--names", default="*", help="use only faces whose file names match, as 'ffhq_*'")
    parser.add_argument(
        "--half", choices=HALVES, help="use only every second face: those that settings are chosen on, or the others"
    )
    parser.add_argument("--limit", type=int, help="use only the first LIMIT faces")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is done to the faces (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8, help="faces worked on at once (default: 8)")


def check_face_options(parser: argparse.ArgumentParser, args: argparse.Namespace, lowest_limit: int = 1) -> None:
    """Stop with a usage error where an option of `add_face_options` is impossible."""
    for name, lowest in (("limit", lowest_limit), ("seed", 0), ("batch_size", 1)):
        value = getattr(args, name)
        if value is not None and value < lowest:
            parser.error(f"--{name.replace('_', '-')} must be at least {lowest}, got {value}")
