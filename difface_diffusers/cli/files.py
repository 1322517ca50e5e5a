"""Where a command writes, and writing without ever leaving half a file."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..imaging.files import QUALITY
from ..imaging.opening import READ_SUFFIXES
from ..utils.atomic import whole_file
from ..utils.choices import FORMATS
from .errors import UsageError
from .inputs import Source, identity_of, some_of


@dataclass(frozen=True)
class Extras:
    """What is written beside the results.

    Attributes:
        compare: the input beside each result.
        uncertainty: where the samples of each input differ.
        crops: the aligned faces of each input.
    """

    compare: bool = False
    uncertainty: bool = False
    crops: bool = False


NO_EXTRAS = Extras()


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


def written_paths(targets: Sequence[Path], extras: Extras) -> list[Path]:
    """Return the results of one input and what belongs to them, of the faces their folder."""
    first = targets[0]
    return [
        *targets,
        *(comparison_path(target) for target in targets if extras.compare),
        *([uncertainty_path(first)] if extras.uncertainty else []),
        *([crops_folder(first)] if extras.crops else []),
    ]


def plan_outputs(
    sources: Mapping[Source, Path],
    output: Path,
    samples: int,
    extras: Extras = NO_EXTRAS,
    suffix: str | None = None,
    kept: Collection[Path] = (),
    report: Path | None = None,
) -> dict[Source, list[Path]]:
    """Decide where the `samples` results of every input go, and what belongs to them, before any work is done.

    `output` is the file itself if it has an image suffix and there is one result, else a folder in which every result
    keeps its input's name and place; suffixes that cannot be written become .png, and several samples are numbered from 1.

    Args:
        sources: the inputs, and the folder below `output` that each belongs in.
        output: file or folder.
        samples: results per input.
        extras: what else is written.
        suffix: of the results in a folder, instead of that of the input.
        kept: files besides the inputs that must not be overwritten.
        report: file that is written in the end.

    Raises:
        UsageError: two files to be written would have the same path, or one of them the path of an input; or `output`
            cannot be written.
    """
    if is_file(output):
        if len(sources) * samples > 1:
            raise UsageError(
                f"-o {output} names a file, but there are {len(sources) * samples} results; name a folder instead"
            )
        if suffix is not None and FORMATS[suffix] != FORMATS[output.suffix.lower()]:
            raise UsageError(f"-o {output} and --format {suffix[1:]} contradict each other")
        plan = {source: [output] for source in sources}
    else:
        plan = {}
        for source, place in sources.items():
            ending = suffix or (source.file.suffix if source.file.suffix.lower() in FORMATS else ".png")
            numbers = [f"_{number}" for number in range(1, samples + 1)] if samples > 1 else [""]
            plan[source] = [output / place / f"{source.stem}{number}{ending}" for number in numbers]
    folders = {crops_folder(row[0]) for row in plan.values()} if extras.crops else set()
    targets = [path for row in plan.values() for path in written_paths(row, extras)]
    targets += [report] if report else []
    doubles = list(_doubles(targets, folders))
    if doubles:
        raise UsageError(f"several inputs would be written to {some_of(doubles)}; restore them to different folders")
    overwritten = list(_overwritten(targets, folders, [*(source.file for source in sources), *kept]))
    if overwritten:
        raise UsageError(f"the output would overwrite the input {some_of(overwritten)}; choose another -o")
    return plan


def is_file(output: Path) -> bool:
    """Whether `output` names a file and no folder; a `UsageError` if it is one that cannot be written."""
    suffix = output.suffix.lower()
    if output.is_dir():
        return False
    if suffix in FORMATS:
        return True
    accepted = f"name a folder or an image ({' '.join(FORMATS)})"
    if output.exists():
        raise UsageError(f"-o {output} is a file that is no image; {accepted}")
    if suffix in READ_SUFFIXES or suffix in Image.registered_extensions():
        raise UsageError(f"-o {output}: {suffix} cannot be written; {accepted}")
    return False


def _doubles(targets: Sequence[Path], folders: Collection[Path]) -> Iterator[Path]:
    """Yield the paths that would be written twice, and those inside a folder of faces."""
    for target, count in Counter(targets).items():
        if count > 1 or not folders.isdisjoint(target.parents):
            yield target


def _overwritten(targets: Sequence[Path], folders: Collection[Path], sources: Sequence[Path]) -> Iterator[Path]:
    """Yield the paths to be written that are files to be read, and the folders that hold one."""
    places = {source.resolve() for source in sources}
    identities = {identity_of(source) for source in sources if source.exists()}
    for target in targets:
        if target.resolve() in places or (target.exists() and identity_of(target) in identities):
            yield target
    above = {parent for place in places for parent in place.parents}
    yield from (folder for folder in folders if folder.resolve() in above)


def save_image(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the path's suffix, under a temporary name until it is whole."""
    image_format = FORMATS[path.suffix.lower()]
    with whole_file(path) as file:
        picture.save(file, format=image_format, **QUALITY.get(image_format, {}))
