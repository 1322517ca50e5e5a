"""Writing a file or a folder that appears, or takes the place of another, only when it is whole."""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO


def check_new(output: Path) -> None:
    """Raise a `ValueError` if `output` exists and is not an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"`output` is {output}, which exists; it must be a new or an empty folder.")


@contextlib.contextmanager
def whole_folder(output: Path) -> Generator[Path]:
    """Give a path beside `output` to write a folder to; it becomes `output` if nothing is raised, else it goes.

    Raises:
        ValueError: see `check_new`.
    """
    check_new(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as workspace:
        folder = Path(workspace) / output.name
        yield folder
        folder.replace(output)


@contextlib.contextmanager
def replaced_folder(output: Path) -> Generator[Path]:
    """Give a path beside `output` to write a folder to; it takes the place of `output` if nothing is raised, else it goes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as workspace:
        folder = Path(workspace) / output.name
        yield folder
        if output.exists():
            output.replace(Path(workspace) / f"{output.name}.old")
        folder.replace(output)


@contextlib.contextmanager
def whole_path(path: Path) -> Generator[Path]:
    """Give a file beside `path` to be written by its name; it takes its place at `path` only when the block has ended well."""
    with _temporary(path) as (descriptor, temporary):
        os.close(descriptor)
        yield Path(temporary)


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Open a file for writing that takes its place at `path` only when the block has ended well."""
    with _temporary(path) as (descriptor, _), os.fdopen(descriptor, "wb") as file:
        yield file


@contextlib.contextmanager
def _temporary(path: Path) -> Generator[tuple[int, str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:50]}-", suffix=".part")
    try:
        yield descriptor, temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
