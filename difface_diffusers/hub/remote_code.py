"""A class of the package as one file of source code that needs nothing else of the package.

From a repository, diffusers fetches one file of code for the pipeline and one for each component, so files cannot share
modules. What a file needs is found by following names, from the class through the top levels of the package's modules.
"""

import ast
import builtins
import inspect
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.metadata import version
from importlib.util import resolve_name
from symtable import symtable

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline


ALLOWED_IMPORTS = {"PIL", "diffusers", "numpy", "torch"} | sys.stdlib_module_names
MODEL_IMPORT = "from diffusers.models.modeling_utils import ModelMixin"


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a module.

    Attributes:
        code: its lines, with the blank lines and comments above them.
        binds: names that it defines; if it defines none, those that it may change.
        uses: names that it needs from the top level, or from Python.
    """

    code: str
    binds: frozenset[str]
    uses: frozenset[str]


@dataclass(frozen=True)
class Module:
    """The top level of a module of the package.

    Attributes:
        statements: all but the imports.
        own_imports: names from the package, with the module they come from and their name there.
        other_imports: names from elsewhere, with code that imports just that one.
    """

    statements: tuple[Statement, ...]
    own_imports: dict[str, tuple[str, str]]
    other_imports: dict[str, str]


@dataclass(frozen=True)
class Origin:
    """Where a name comes from.

    Attributes:
        source: a module of the package, code that imports the name, or "Python".
        statements: those of the module that define the name.
    """

    source: str
    statements: tuple[Statement, ...] = ()


def self_contained(cls: type, *others: type) -> str:
    """Write a class of the package as one file that needs torch, diffusers, NumPy and Pillow alone.

    The file of a pipeline is without the models, which come with the components: a type hint that names one means
    `ModelMixin` there. Of several pipelines that derive from each other only `cls` stays an attribute of the file,
    because diffusers looks for a single one.

    Args:
        cls: a pipeline, its blocks or a model.
        others: classes that are to be in the file too.

    Returns:
        Python code that defines classes of the same names.

    Raises:
        ValueError: the package's code cannot be taken apart like this; the message says where.
    """
    origins = follow(cls, *others)
    imports = {name: origin.source for name, origin in origins.items() if "import " in origin.source}
    networks = {name: code for name, code in imports.items() if code == f"{MODEL_IMPORT} as {name}"}
    pipelines = [base.__name__ for base in cls.__mro__[1:] if issubclass(base, DiffusionPipeline)]
    bases = [name for name in pipelines if name in origins and origins[name].statements]
    parts = [
        f"# Generated from difface_diffusers {version('difface-diffusers')}; do not edit.",
        "# SPDX-License-Identifier: Apache-2.0",
        "",
        *sorted(set(imports.values()) - set(networks.values())),
    ]
    if networks:
        parts += ["", "# For type hints; the networks come with the components.", *sorted(networks.values())]
    parts += [statement.code for statement in in_order(origins)]
    if bases:
        parts += ["", "", f"del {', '.join(bases)}  # diffusers looks for the one pipeline of a file"]
    code = "\n".join([*parts, ""])
    check(cls, code, {*networks, *bases})
    return code


def follow(cls: type, *others: type) -> dict[str, Origin]:
    """Find where everything comes from that classes need.

    Returns:
        The origins of all names at the top level of their file, their own among them.
    """
    without_models = issubclass(cls, DiffusionPipeline)
    origins: dict[str, Origin] = {}
    queue = [(root.__module__, root.__name__) for root in (cls, *others)]
    while queue:
        user, name = queue.pop()
        origin = origin_of(name, user, without_models)
        if name not in origins:
            origins[name] = origin
            queue += [
                (origin.source, other) for statement in origin.statements for other in statement.uses | statement.binds
            ]
        elif origins[name] != origin:
            raise ValueError(f"`{name}` has two meanings, {origins[name].source} and {origin.source}; rename one.")
    if not without_models:
        origins.setdefault("ModelMixin", Origin(MODEL_IMPORT))  # looked up there once a loaded pipeline has been saved
    return origins


def origin_of(name: str, user: str, without_models: bool) -> Origin:
    """Find where a name comes from that the module `user` uses."""
    source = user
    while name in read_module(source).own_imports:
        source, original = read_module(source).own_imports[name]
        if original != name:
            raise ValueError(f"{user} imports `{original}` as `{name}`; import it by its own name.")
    module = read_module(source)
    statements = tuple(statement for statement in module.statements if name in statement.binds)
    if name in module.other_imports:
        return Origin(module.other_imports[name])
    if without_models and is_model(getattr(import_module(source), name, None)):
        return Origin(f"{MODEL_IMPORT} as {name}")
    if statements:
        return Origin(source, statements)
    if hasattr(builtins, name) or name == "__file__":
        return Origin("Python")
    raise ValueError(f"{user} uses `{name}`, which {source} does not define at its top level.")


def is_model(value: object) -> bool:
    """Whether a value is the class of a model."""
    return isinstance(value, type) and issubclass(value, ModelMixin)


def in_order(origins: dict[str, Origin]) -> list[Statement]:
    """Return the statements of all origins: of each module as they stand there, behind the modules that it needs."""
    kept = {(origin.source, statement) for origin in origins.values() for statement in origin.statements}
    needs: dict[str, set[str]] = defaultdict(set)
    for source, statement in kept:
        needs[source] |= {origins[name].source for name in statement.uses} - {source}
    order = TopologicalSorter({source: sorted(needs[source]) for source in sorted(needs)}).static_order()
    return [
        statement
        for source in order
        if source in needs
        for statement in read_module(source).statements
        if (source, statement) in kept
    ]


@cache
def read_module(name: str) -> Module:
    """Read the source of a module."""
    module = import_module(name)
    source = inspect.getsource(module)
    lines = source.splitlines()
    statements: list[Statement] = []
    own_imports: dict[str, tuple[str, str]] = {}
    other_imports: dict[str, str] = {}
    end = 0
    for node in ast.parse(source).body:
        begin, end = end, node.end_lineno
        if isinstance(node, ast.Import):
            for alias in node.names:
                other_imports[alias.asname or alias.name.partition(".")[0]] = f"import {ast.unparse(alias)}"
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), module.__package__)
            for alias in node.names:
                if origin.partition(".")[0] == name.partition(".")[0]:
                    own_imports[alias.asname or alias.name] = (origin, alias.name)
                else:
                    other_imports[alias.asname or alias.name] = f"from {origin} import {ast.unparse(alias)}"
        else:
            statements.append(read_statement("\n".join(lines[begin:end])))
    return Module(tuple(statements), own_imports, other_imports)


def read_statement(code: str) -> Statement:
    """Read which names a statement binds and uses at the top level."""
    tables = [symtable(code, "", "exec")]
    for table in tables:
        tables += table.get_children()
    top = tables[0].get_symbols()
    used = [symbol for symbol in top if symbol.is_referenced()]
    used += [symbol for table in tables[1:] for symbol in table.get_symbols() if symbol.is_global()]
    uses = frozenset(symbol.get_name() for symbol in used)
    return Statement(code, frozenset(symbol.get_name() for symbol in top if symbol.is_assigned()) or uses, uses)


def check(cls: type, code: str, names_of_hints: set[str]) -> None:
    """Raise a `ValueError` if code imports what may be missing, or runs what only hints and bases may name."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += ["." * node.level + (node.module or "")] if isinstance(node, ast.ImportFrom) else []
        for module in imported:
            if module.partition(".")[0] not in ALLOWED_IMPORTS:
                raise ValueError(f"{cls.__name__} imports `{module}`, which its file cannot rely on.")

    hints: set[ast.AST] = set()
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None), *getattr(node, "bases", ())):
            hints |= set(ast.walk(part)) if part else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in hints:
            if node.id in names_of_hints:
                raise ValueError(
                    f"{cls.__name__} uses `{node.id}` outside of type hints and bases; its file has no such class."
                )
