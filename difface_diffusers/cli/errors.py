"""Commands that cannot start."""

import sys


class UsageError(Exception):
    """The command cannot start; the message says what to change."""


def refuse(command: str, error: Exception) -> int:
    """Say why a command cannot do its work, and return its exit status."""
    print(f"difface {command}: {error}", file=sys.stderr)
    return 2
