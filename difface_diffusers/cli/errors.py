"""Commands that cannot start."""

import sys


class UsageError(Exception):
    """The command cannot start; the message says what to change."""


def refuse(command: str, error: Exception, status: int = 2) -> int:
    """Say why a command cannot do its work, and return its exit status: 2, or 1 where what was asked for is in order."""
    print(f"difface {command}: {error}", file=sys.stderr)
    return status
