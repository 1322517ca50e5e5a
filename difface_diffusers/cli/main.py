"""Parse the command line and hand over to one subcommand; heavy imports wait until it runs."""

import argparse
import io
import sys
import warnings
from collections.abc import Sequence

from ..utils.versions import PACKAGE, version_of
from . import convert, degrade, demo, doctor, evaluate, export, info, inpaint, models, restore, train, video
from .parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `difface`; return the exit status."""
    return run(parse(argv))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what is asked, by `argv` or that of the process; leave the process where it is help or a mistake."""
    parser = Parser(
        prog="difface",
        description="Restore faces with DifFace.",
        examples=["difface restore photo.jpg -o restored/", "difface restore --help", "difface doctor"],
    )
    parser.add_argument("--version", action="version", version=f"difface {version_of(PACKAGE) or 'is not installed'}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    restore.add_parser(subparsers)
    inpaint.add_parser(subparsers)
    video.add_parser(subparsers)
    train.add_parser(subparsers)
    degrade.add_parser(subparsers)
    evaluate.add_parser(subparsers)
    info.add_parser(subparsers)
    export.add_parser(subparsers)
    convert.add_parser(subparsers)
    models.add_parser(subparsers)
    demo.add_parser(subparsers)
    doctor.add_parser(subparsers)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Run what `parse` returned; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the names of files may hold anything
    formatted = warnings.formatwarning
    warnings.formatwarning = _format_warning  # ty: ignore[invalid-assignment]  functions have types of their own
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("difface: interrupted; what was finished is whole", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = formatted


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a line for people, who have no use for a line of code."""
    return f"difface: {message}\n"
