"""The Python blocks of the README and the docs are Python, and what they import is there."""

import ast
import importlib

import pytest

from .pages import PAGES, python_blocks


BLOCKS = [block for page in PAGES for block in python_blocks(page)]


def test_there_are_blocks():
    assert len(BLOCKS) > 25


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_what_is_imported_is_there(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
