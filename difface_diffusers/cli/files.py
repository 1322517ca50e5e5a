"""Which files a command reads, where it writes, and writing without ever leaving half a file."""

import glob
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from PIL import Image

from ..imaging.files import FORMATS, QUALITY
from ..utils.atomic import whole_file
from ..utils.listing import list_files


MASK_HELP = "an image, white where it is to be filled, or a folder with one of each input's name"
READ_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


class UsageError(Exception):
    """The command cannot start; the message says what to change."""


def refuse(command: str, error: Exception) -> int:
    """Say why a command cannot do its work, and return its exit status."""
    print(f"difface {command}: {error}", file=sys.stderr)
    return 2


def collect_inputs(
    inputs: Sequence[str], recursive: bool = False, output: Path | None = None
) -> tuple[dict[Path, Path], dict[str, str]]:
    """Resolve files, folders and glob patterns.

    Args:
        inputs: what the user named.
        recursive: search folders to any depth.
        output: the folder of the results, which are not taken for inputs where it lies inside a searched folder.

    Returns:
        The files in order, each once, with the folder that each has below the input it was found in; and for every input
        that yields none, the reason.
    """
    files: dict[Path, Path] = {}
    failures: dict[str, str] = {}
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            earlier = output.resolve() if output is not None and output.resolve() != path.resolve() else None
            found = {
                file: file.relative_to(path).parent
                for file in list_files(path, READ_SUFFIXES, recursive)
                if earlier not in file.resolve().parents
            }
            reason = f"the folder holds no image ({' '.join(READ_SUFFIXES)})"
        elif path.exists():
            found, reason = {path: Path()}, ""
        else:
            matches = sorted(Path(match) for match in glob.glob(entry, recursive=True))
            found = {match: Path() for match in matches if match.is_file()}
            reason = "no such file or folder, and nothing matches it as a pattern"
        if not found:
            failures[entry] = reason
        for file, place in found.items():
            files.setdefault(file, place)
    return files, failures


def folder_images(option: str, folder: Path) -> list[Path]:
    """Return the images of the folder that an option names; a `UsageError` if it is none, or holds none."""
    if not folder.is_dir():
        raise UsageError(f"{option} {folder} is not a folder")
    files, failures = collect_inputs([str(folder)])
    if failures:
        raise UsageError(f"{option} {folder}: {failures[str(folder)]}")
    return list(files)


def mask_for(file: Path, masks: Path) -> Path | None:
    """Return the mask of an input: `masks` itself, or the image of the same name in this folder if there is one."""
    if not masks.is_dir():
        return masks
    named = (path for path in sorted(masks.glob(f"{glob.escape(file.stem)}.*")) if path.stem == file.stem)
    return next((path for path in named if path.suffix.lower() in READ_SUFFIXES and path.is_file()), None)


def comparison_path(target: Path) -> Path:
    """Where the comparison with the input goes that belongs to a result."""
    return target.with_name(f"{target.stem}_compare.png")


def uncertainty_path(target: Path) -> Path:
    """Where the map of uncertainty goes that belongs to a result."""
    return target.with_name(f"{target.stem}_uncertainty.png")


def crops_folder(target: Path) -> Path:
    """Where the aligned faces go that belong to a result."""
    return target.with_name(f"{target.stem}_faces")


def companions(files: Collection[Path]) -> set[Path]:
    """Return the files among these that `restore` writes beside another of them, which is its result."""
    return {path for file in files for path in (comparison_path(file), uncertainty_path(file))} & set(files)


def plan_outputs(
    files: Mapping[Path, Path],
    output: Path,
    samples: int,
    compare: bool = False,
    uncertainty: bool = False,
    suffix: str | None = None,
) -> dict[Path, list[Path]]:
    """Decide where the `samples` results of every file go, and what belongs to them, before any work is done.

    `output` is the file itself if it has an image suffix and there is one result, else a folder in which every result
    keeps its input's name and place; suffixes that cannot be written become .png, and several samples are numbered from 1.

    Args:
        files: the inputs, and the folder below `output` that each belongs in.
        output: file or folder.
        samples: results per input.
        compare: whether there is a comparison for every result.
        uncertainty: whether there is a map of uncertainty for every input.
        suffix: of the results in a folder, instead of that of the input.

    Raises:
        UsageError: two files to be written would have the same path, or one of them the path of an input.
    """
    if output.suffix.lower() in FORMATS and not output.is_dir():
        if len(files) * samples > 1:
            raise UsageError(
                f"-o {output} names a file, but there are {len(files) * samples} results; name a folder instead"
            )
        plan = {file: [output] for file in files}
    elif output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file that is no image ({' '.join(FORMATS)}); name a folder or an image")
    else:
        plan = {}
        for file, place in files.items():
            ending = suffix or (file.suffix if file.suffix.lower() in FORMATS else ".png")
            numbers = [f"_{number}" for number in range(1, samples + 1)] if samples > 1 else [""]
            plan[file] = [output / place / f"{file.stem}{number}{ending}" for number in numbers]
    targets = [path for row in plan.values() for path in written_files(row, compare, uncertainty)]
    doubles = [str(target) for target, count in Counter(targets).items() if count > 1]
    if doubles:
        raise UsageError(f"several inputs would be written to {', '.join(doubles)}; restore them to different folders")
    sources = {file.resolve() for file in files}
    overwritten = [str(target) for target in targets if target.resolve() in sources]
    if overwritten:
        raise UsageError(f"the output would overwrite the input {', '.join(overwritten)}; choose another -o")
    return plan


def written_files(targets: Sequence[Path], compare: bool, uncertainty: bool) -> list[Path]:
    """Return the results of one input and the pictures that belong to them."""
    maps = [uncertainty_path(targets[0])] if uncertainty else []
    return [*targets, *(comparison_path(target) for target in targets if compare), *maps]


def save_image(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the path's suffix, under a temporary name until it is whole."""
    image_format = FORMATS[path.suffix.lower()]
    with whole_file(path) as file:
        picture.save(file, format=image_format, **QUALITY.get(image_format, {}))
