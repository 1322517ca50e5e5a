"""Which files a command reads, where it writes, and writing without ever leaving half a file."""

import glob
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image


READ_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
QUALITY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}}


class UsageError(Exception):
    """The command cannot start; the message says what to change."""


def collect_inputs(inputs: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """Resolve files, folders (not searched recursively) and glob patterns.

    Returns:
        The files in order, each once; and for every input that yields none, the reason.
    """
    files: dict[Path, None] = {}
    failures: dict[str, str] = {}
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_image(file))
            reason = f"the folder holds no image ({' '.join(READ_SUFFIXES)})"
        elif path.exists():
            found, reason = [path], ""
        else:
            found = sorted(Path(match) for match in glob.glob(entry) if Path(match).is_file())
            reason = "no such file or folder, and nothing matches it as a pattern"
        if not found:
            failures[entry] = reason
        files |= dict.fromkeys(found)
    return list(files), failures


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in READ_SUFFIXES and not file.name.startswith(".") and file.is_file()


def comparison_path(target: Path) -> Path:
    """Where the comparison with the input goes that belongs to a result."""
    return target.with_name(f"{target.stem}_compare.png")


def plan_outputs(files: Sequence[Path], output: Path, samples: int, compare: bool = False) -> dict[Path, list[Path]]:
    """Decide where the `samples` results of every file go, and their comparisons, before any work is done.

    `output` is the file itself if it has an image suffix and there is one result, else a folder in which every result
    keeps its input's name; suffixes that cannot be written become .png, and several samples are numbered from 1.

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
        for file in files:
            suffix = file.suffix if file.suffix.lower() in FORMATS else ".png"
            numbers = [f"_{number}" for number in range(1, samples + 1)] if samples > 1 else [""]
            plan[file] = [output / f"{file.stem}{number}{suffix}" for number in numbers]
    targets = [target for row in plan.values() for target in row]
    targets += [comparison_path(target) for target in targets] if compare else []
    doubles = [str(target) for target, count in Counter(targets).items() if count > 1]
    if doubles:
        raise UsageError(f"several inputs would be written to {', '.join(doubles)}; restore them to different folders")
    sources = {file.resolve() for file in files}
    overwritten = [str(target) for target in targets if target.resolve() in sources]
    if overwritten:
        raise UsageError(f"the output would overwrite the input {', '.join(overwritten)}; choose another -o")
    return plan


def save_image(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the path's suffix, under a temporary name until it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_format = FORMATS[path.suffix.lower()]
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            picture.save(file, format=image_format, **QUALITY.get(image_format, {}))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
