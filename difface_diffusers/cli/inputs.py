"""Which pictures a command reads: of files, folders, patterns and standard input, each once."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..imaging.files import read_photo
from ..imaging.metadata import PhotoFile
from ..imaging.opening import READ_SUFFIXES, count_pages
from ..utils.listing import list_files
from .errors import UsageError


STANDARD = "-"  # input or output
NAMED_AT_MOST = 5  # files in a summary


@dataclass(frozen=True)
class Source:
    """A picture to read.

    Attributes:
        file: where it is.
        page: which of the file's pictures, from 1; `None` is the first, and the only one that is read.
        name: what the file is called.
    """

    file: Path
    page: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or str(self.file))

    @property
    def stem(self) -> str:
        """How the names of its results begin."""
        return self.file.stem if self.page is None else f"{self.file.stem}_page{self.page}"

    def read(self) -> PhotoFile:
        """Read the picture; see `read_photo`."""
        return read_photo(self.file, (self.page or 1) - 1, self.name)


@dataclass
class Inputs:
    """What was found where the user said.

    Attributes:
        files: in order, each once, with the folder that each has below the input it was found in.
        failures: for every input that yields none, the reason.
        ignored: the files in the folders that are no images by their suffix.
        doubles: other names of files that were found already.
    """

    files: dict[Path, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)
    doubles: list[Path] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """Say what was left out, and why."""
        reasons = {"no images by their suffixes": self.ignored, "other names of inputs": self.doubles}
        return [f"left out {len(files)} ({reason}): {some_of(files)}" for reason, files in reasons.items() if files]


def some_of(names: Sequence[object]) -> str:
    """Name the first of many, and count the rest."""
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(map(str, names[:NAMED_AT_MOST])) + (f" and {rest} more" if rest > 0 else "")


def collect_inputs(inputs: Iterable[str], recursive: bool = False, output: Path | None = None) -> Inputs:
    """Resolve files, folders and glob patterns.

    Args:
        inputs: what the user named.
        recursive: search folders to any depth.
        output: the folder of the results, which are not taken for inputs where it lies inside a searched folder.
    """
    result = Inputs()
    known: set[tuple[int, int]] = set()
    for entry in inputs:
        try:
            found, reason = _find(Path(entry), recursive, output, result.ignored)
        except OSError as error:
            found, reason = {}, str(error)
        if not found:
            result.failures[entry] = reason
        for file, place in found.items():
            identity = identity_of(file)
            if identity not in known:
                result.files[file] = place
            elif file not in result.files:
                result.doubles.append(file)
            known.add(identity)
    return result


def _find(path: Path, recursive: bool, output: Path | None, ignored: list[Path]) -> tuple[dict[Path, Path], str]:
    """Return the files of an entry with the folder of each below it, and why there is none; note what is ignored."""
    if path.is_dir():
        earlier = output.resolve() if output is not None and output.resolve() != path.resolve() else None
        files = [file for file in list_files(path, None, recursive) if earlier not in file.resolve().parents]
        ignored += [file for file in files if file.suffix.lower() not in READ_SUFFIXES]
        found = {file: file.relative_to(path).parent for file in files if file.suffix.lower() in READ_SUFFIXES}
        return found, f"the folder holds no image ({' '.join(READ_SUFFIXES)})"
    if path.is_file():
        return {path: Path()}, ""
    if path.exists():
        return {}, f"it is neither a file nor a folder; {STANDARD} reads standard input"
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    found = {match: Path() for match in matches if match.is_file()}
    return found, "no such file or folder, and nothing matches it as a pattern"


def identity_of(file: Path) -> tuple[int, int]:
    """Return what all names of one file have in common."""
    status = os.stat(file)
    return status.st_dev, status.st_ino


def sources_of(files: Mapping[Path, Path], all_pages: bool, name: str = "") -> dict[Source, Path]:
    """Return the pictures of files, the first of each or all, with the folder of each; `name` is that of `Source`."""
    sources: dict[Source, Path] = {}
    for file, place in files.items():
        count = count_pages(file) if all_pages else 1
        pages = [None] if count == 1 else range(1, count + 1)
        sources |= {Source(file, page, name): place for page in pages}
    return sources


def folder_images(option: str, folder: Path) -> list[Path]:
    """Return the images of the folder that an option names; a `UsageError` if it is none, or holds none."""
    if not folder.is_dir():
        raise UsageError(f"{option} {folder} is not a folder")
    inputs = collect_inputs([str(folder)])
    if inputs.failures:
        raise UsageError(f"{option} {folder}: {inputs.failures[str(folder)]}")
    return list(inputs.files)


def mask_for(file: Path, masks: Path) -> Path | None:
    """Return the mask of an input: `masks` itself, or the image of the same name in this folder if there is one."""
    if not masks.is_dir():
        return masks
    named = (path for path in sorted(masks.glob(f"{glob.escape(file.stem)}.*")) if path.stem == file.stem)
    return next((path for path in named if path.suffix.lower() in READ_SUFFIXES and path.is_file()), None)
