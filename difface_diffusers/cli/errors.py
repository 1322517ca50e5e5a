"""Commands that cannot start."""

import sys
from pathlib import Path

from ..utils.atomic import check_new


class UsageError(Exception):
    """The command cannot start; the message says what to change."""


def check_output(output: Path) -> None:
    """Raise a `UsageError` if `--output` exists and is not an empty folder."""
    try:
        check_new(output)
    except ValueError as error:
        raise UsageError(f"--output: {error}") from error


def refuse(command: str, error: Exception, status: int = 2) -> int:
    """Say why a command cannot do its work, and return its exit status: 2, or 1 where what was asked for is in order."""
    print(f"difface {command}: {error}", file=sys.stderr)
    return status
