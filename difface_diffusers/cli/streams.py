"""Standard input and output in the place of files."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from .errors import UsageError
from .inputs import STANDARD


@contextlib.contextmanager
def spooled_input(wanted: bool) -> Generator[Path | None]:
    """Give a file with what standard input holds, `None` if it is not wanted; it goes in the end."""
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="difface-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


@contextlib.contextmanager
def spooled_output(output: Path, suffix: str) -> Generator[Path]:
    """Give a file whose content goes to standard output in the end, if there is any; messages go to standard error.

    Any `output` but `STANDARD` is given back as it is.

    Raises:
        UsageError: standard output cannot be written.
    """
    if str(output) != STANDARD:
        yield output
        return
    pipe = sys.stdout.buffer
    with tempfile.TemporaryDirectory(prefix="difface-") as folder:
        path = Path(folder) / f"stdout{suffix}"
        with contextlib.redirect_stdout(sys.stderr):
            yield path
        if path.exists():
            try:
                pipe.write(path.read_bytes())
                pipe.flush()
            except OSError as error:
                raise UsageError(f"standard output cannot be written: {error}") from error
