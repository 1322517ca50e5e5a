"""Telling the ids of repositories on the Hub from paths."""

import re
from pathlib import Path


HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def may_be_hub_id(name: str) -> bool:
    """Whether a text, no path of anything that exists, can be the id of a repository.

    It has to be ORG/NAME; where there is a folder ORG, it is taken for a mistyped path.
    """
    return HUB_ID.fullmatch(name) is not None and not Path(name).parent.is_dir()
