"""The pages that people read, and the commands and Python blocks in them."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import difface_diffusers


ROOT = Path(difface_diffusers.__file__).parents[1]
PLACES = (
    "*.md",
    "docs/*.md",
    "examples/*.md",
    "integrations/*/*.md",
    "spaces_demo/*.md",
    "difface_diffusers/**/*.md",
)
PAGES = sorted(path.relative_to(ROOT).as_posix() for place in PLACES for path in ROOT.glob(place))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
JOINED = re.compile(r"\\\n\s*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file, from the repository's root.
        line: of its fence, from 1.
        language: after the fence; "" for none.
        text: between the fences.
    """

    page: str
    line: int
    language: str
    text: str


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    text = read(page)
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match[2], textwrap.dedent(match[3]))


def python_blocks(page):
    return [block for block in blocks(page) if block.language == "python"]


def commands(page):
    """Return the commands of a page, each as its words, without comments."""
    lines = (
        line for block in blocks(page) if block.language == "sh" for line in JOINED.sub(" ", block.text).splitlines()
    )
    return [words for line in lines if (words := shlex.split(line, comments=True))]
