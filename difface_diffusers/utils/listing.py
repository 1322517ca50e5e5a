"""Which files of a folder count."""

from collections.abc import Collection
from pathlib import Path, PurePath


def list_files(folder: Path, suffixes: Collection[str] | None, recursive: bool) -> list[Path]:
    """Return the files in a folder that have one of the suffixes and are not hidden, sorted by path.

    Args:
        folder: where to look; one that is not there holds nothing.
        suffixes: in lower case, those of the files may be in any; `None` accepts all.
        recursive: look into the folders below too, unless they are hidden.
    """
    found = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(
        path
        for path in found
        if (suffixes is None or path.suffix.lower() in suffixes)
        and not is_hidden(path.relative_to(folder))
        and path.is_file()
    )


def is_hidden(path: PurePath) -> bool:
    """Whether a path leads to or through a name with a leading dot, such as the `._face.jpg` that macOS puts beside a face."""
    return any(part.startswith(".") for part in path.parts)
