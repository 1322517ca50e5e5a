"""Writing a folder that appears, or takes the place of another, only when it is whole."""

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path


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
