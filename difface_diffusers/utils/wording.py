"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 face`, `2 faces`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
