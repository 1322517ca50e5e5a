"""`difface degrade`: make a test set of clean aligned faces."""

import argparse
import csv
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.atomic import whole_folder
from ..utils.records import take
from .errors import UsageError, check_output, refuse
from .parser import Commands


if TYPE_CHECKING:
    import numpy as np

    from ..degradation.blind import DegradationRanges
    from ..degradation.test_sets import Recipe
    from .report import FileResult

DESCRIPTION = """\
Make a test set of a folder of clean aligned faces, taken in the order of their names. OUT receives the degraded faces in
lq/, the clean ones in hq/, for holes the masks in mask/ (white is missing), and parameters.csv with what was done to each.

celeba-test: the paper's 4,000 combinations of JPEG quality, scale, noise and blur, one a face.
celeba-inpaint: the paper's 2,000 holes, 500 each of boxes, strokes, surroundings and halves.
blind: degradations drawn at random over the training range, or over that of --config, one a face. Of a monochrome print
hq/ has the clean face in the same ink.

Of more faces than a set has, the rest is left out; fewer are taken again from the first.
"""
PROTOCOLS = ("celeba-test", "celeba-inpaint", "blind")


@dataclass(frozen=True)
class DegradeOptions:
    """What `difface degrade` is asked.

    Attributes:
        protocol: one of `PROTOCOLS`.
        input: folder of clean aligned faces.
        output: folder to make.
        size: side of the faces, pixels; `None` is that of the protocol.
        seed: of `blind`; `None` is 0.
        config: of an estimator's training, whose degradation `blind` takes; `None` is the whole range.

    Raises:
        UsageError: they contradict each other, one is out of range, or `output` is there already.
    """

    protocol: str
    input: Path
    output: Path
    size: int | None
    seed: int | None
    config: str | None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 32:
            raise UsageError(f"--size is {self.size}; it must be at least 32")
        if self.seed is not None and self.protocol != "blind":
            raise UsageError(f"--seed is for --protocol blind; {self.protocol} has its own")
        if self.config is not None and self.protocol != "blind":
            raise UsageError(f"--config is for --protocol blind; {self.protocol} has its own degradations")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must be at least 0")
        check_output(self.output)


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface degrade`."""
    parser = subparsers.add_parser(
        "degrade",
        help="make a test set of clean faces",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        examples=[
            "difface degrade --protocol blind --input faces/ -o blind/ --size 128 --seed 0",
            "difface degrade --protocol celeba-test --input celeba512/ -o testset/",
        ],
    )
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS)
    parser.add_argument("--input", required=True, type=Path, metavar="DIR", help="folder of clean aligned faces")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--size", type=int, metavar="S", help="side of the faces, pixels; 512 unless given, 256 for celeba-inpaint"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of `blind` (default: 0); the other sets have their own")
    parser.add_argument(
        "--config",
        metavar="YAML",
        help="for `blind`: an estimator's training, whose degradation it takes; as in `train`",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the set; return 0, 1 when some faces failed, 2 when it cannot be made."""
    from .inputs import folder_images

    started = time.monotonic()
    try:
        options = take(DegradeOptions, vars(args))
        size = options.size or _usual_size(options.protocol)
        files = folder_images("--input", options.input)
        recipes = _recipes(options, size)
        faces = files if options.protocol == "blind" else itertools.cycle(files)
        with whole_folder(options.output) as folder:
            results = _write_set(faces, recipes, size, folder)
    except UsageError as error:
        return refuse("degrade", error)

    from .report import conclude

    return conclude(results, time.monotonic() - started, "degraded", None)


def _usual_size(protocol: str) -> int:
    from ..evaluation.protocol import INPAINTING_SIZE, RESTORATION_SIZE

    return INPAINTING_SIZE if protocol == "celeba-inpaint" else RESTORATION_SIZE


def _recipes(options: DegradeOptions, size: int) -> Iterable["Recipe"]:
    from ..degradation.test_sets import blind_set, inpainting_set, restoration_set

    if options.protocol == "blind":
        return blind_set(size, options.seed or 0, _ranges(options.config))
    return (restoration_set if options.protocol == "celeba-test" else inpainting_set)(size)


def _ranges(config: str | None) -> "DegradationRanges | None":
    if config is None:
        return None
    from ..training import EstimatorConfig, load_config, shipped_config

    try:
        return load_config(EstimatorConfig, shipped_config(config) or config).degradation
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(f"--config: {error}") from error


def _write_set(faces: Iterable[Path], recipes: Iterable["Recipe"], size: int, folder: Path) -> list["FileResult"]:
    """Write a set to a folder; return a record for each of its faces."""
    from tqdm import tqdm

    from ..training.data import read_face
    from .report import FileResult

    results, rows = [], []
    for index, (face, recipe) in enumerate(tqdm(zip(faces, recipes, strict=False), unit="face")):
        name = f"{index:04}_{face.stem}.png"
        try:
            clean = read_face(face, size, _check_square)
        except ValueError as error:
            results.append(FileResult(str(face), error=str(error)))
            continue
        pictures = {"lq": recipe.degrade(clean), "hq": clean if recipe.target is None else recipe.target(clean)}
        if recipe.mask is not None:
            pictures["mask"] = recipe.mask
        for kind, pixels in pictures.items():
            _save(pixels, folder / kind / name)
        rows.append({"file": name, "source": face.name, **recipe.parameters})
        results.append(FileResult(str(face)))
    if not rows:
        raise UsageError(f"no face could be read: {results[0].input}: {results[0].error}")
    with (folder / "parameters.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return results


def _check_square(pixels: "np.ndarray") -> "np.ndarray":
    height, width = pixels.shape[:2]
    if height != width:
        raise ValueError(f"it is {width} x {height} pixels; aligned faces are square")
    return pixels


def _save(pixels: "np.ndarray", path: Path) -> None:
    """Write `[S,S,3]` or `[S,S]` in [0,1] as 8 bits."""
    from PIL import Image

    from .files import save_image

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(Image.fromarray((pixels * 255).round().astype("uint8")), path)
