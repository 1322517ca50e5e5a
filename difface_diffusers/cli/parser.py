"""A parser whose help ends with examples, and which guesses what a mistyped word was meant to be."""

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # what a command's parser is added to

HEADING = "examples:\n"
WORD = re.compile(r"'([^']+)'|(--[\w-]+)")  # of a message: a choice in quotes, or an option


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser`; those of its commands are of the same kind.

    Args:
        examples: commands that the help ends with.
        options: what `ArgumentParser` takes.
    """

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        if examples:
            options["epilog"] = HEADING + "\n".join(f"  {example}" for example in examples)
        options.setdefault("formatter_class", _Formatter)
        super().__init__(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left over here, where it is known what it might have been."""
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        """Leave the process with a message and, if one is near, the word that was meant."""
        known = list(self._known())
        for quoted, option in WORD.findall(message):
            word = quoted or option
            if word not in known and (near := get_close_matches(word, known, n=1)):
                message += f"\n{self.prog}: did you mean {near[0]}?"
                break
        super().error(message)

    def _known(self) -> Iterator[str]:
        """Yield what may be written: options and choices, commands among them."""
        for action in self._actions:
            yield from action.option_strings
            yield from map(str, action.choices or ())


class _Formatter(argparse.HelpFormatter):
    """Leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(HEADING) else super()._fill_text(text, width, indent)
