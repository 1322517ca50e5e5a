"""Writing a file or a folder that appears, or takes the place of another, only when it is whole."""

import contextlib
import tempfile
import uuid
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
        _share_as_usual(folder)
        folder.replace(output)


@contextlib.contextmanager
def replaced_folder(output: Path) -> Generator[Path]:
    """Give a path beside `output` to write a folder to; it takes the place of `output` if nothing is raised, else it goes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as workspace:
        folder = Path(workspace) / output.name
        yield folder
        _share_as_usual(folder)
        if output.exists():
            output.replace(Path(workspace) / f"{output.name}.old")
        folder.replace(output)


@contextlib.contextmanager
def whole_path(path: Path) -> Generator[Path]:
    """Give a file beside `path` to be written by its name; it takes its place at `path` only when the block has ended well."""
    with _temporary(path) as temporary:
        temporary.touch()
        yield temporary


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Open a file for writing that takes its place at `path` only when the block has ended well."""
    with _temporary(path) as temporary, temporary.open("xb") as file:
        yield file


@contextlib.contextmanager
def _temporary(path: Path) -> Generator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `tempfile`, whose files nobody else may read.
    temporary = path.with_name(f".{path.stem[:50]}-{uuid.uuid4().hex[:12]}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _share_as_usual(folder: Path) -> None:
    """Give weights the permissions of other new files: what safetensors 0.8 writes nobody else can read."""
    probe = folder / ".permissions"
    probe.touch()
    permissions = probe.stat().st_mode
    probe.unlink()
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(permissions)
