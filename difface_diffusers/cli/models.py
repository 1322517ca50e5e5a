"""`difface models`: what was fetched from the original's releases, and how to have the room back."""

import argparse
from dataclasses import dataclass

from ..utils.records import take
from .errors import refuse
from .parser import Commands


@dataclass(frozen=True)
class ModelsOptions:
    """What `difface models` is asked.

    Attributes:
        free: names of models to delete; `None` deletes none, and an empty list all.
    """

    free: list[str] | None


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface models`."""
    parser = subparsers.add_parser(
        "models",
        help="list the models that were fetched, or delete them",
        description="List the official models and the upscalers that were fetched to the cache. Models of the Hub are listed by"
        " `hf cache ls`.",
        examples=[
            "difface models",
            "difface models --free 'official restoration'",
        ],
    )
    parser.add_argument("--free", nargs="*", metavar="NAME", help="delete these, or all if none is named")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List or delete; return 0, or 2 when there is no model of a name."""
    from ..hub.assets import cached_models, free

    options = take(ModelsOptions, vars(args))
    try:
        if options.free is None:
            for model in cached_models():
                state = "" if model.is_whole else ", broken off: it goes on when it is asked for again"
                print(f"{model.name:<28}{model.num_bytes / 1e6:9.1f} MB  {model.path}{state}")
            return 0
        for name in options.free or [model.name for model in cached_models()]:
            print(f"{name}: {free(name) / 1e6:.1f} MB are free again")
    except (OSError, ValueError) as error:
        return refuse("models", error)
    return 0
