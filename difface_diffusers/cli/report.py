"""What became of every input, for the summary and for `--report`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..photo_files import whole_file


@dataclass(frozen=True)
class FileResult:
    """What became of one input.

    Attributes:
        input: as it was named or found.
        outputs: the files written.
        faces: per face its `box` (left, top, right, bottom), `landmarks` (five times x, y), both in pixels of the input, and
            `score`.
        seconds: what it took, in equal shares with those that went through the networks with it.
        error: why it failed.
        skipped: whether its outputs were there already.
    """

    input: str
    outputs: list[str] = field(default_factory=list)
    faces: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False


def write_report(results: Sequence[FileResult], path: Path) -> None:
    """Write the results as JSON, a list with one object per input."""
    text = json.dumps([asdict(result) for result in results], indent=2)
    with whole_file(path) as file:
        file.write(text.encode())
