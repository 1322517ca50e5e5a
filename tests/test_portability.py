"""What breaks on Windows or macOS and can be seen in the code; CONTRIBUTING says why."""

import ast
from pathlib import Path

import pytest

import difface_diffusers


ROOT = Path(difface_diffusers.__file__).parent
FILES = sorted([*ROOT.rglob("*.py"), ROOT.parent / "difface.py"])
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
POSIX_NAMES = {
    "os": {
        "fork",
        "forkpty",
        "geteuid",
        "getpgid",
        "getuid",
        "killpg",
        "mkfifo",
        "nice",
        "sched_getaffinity",
        "setsid",
    },
    "signal": {"SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "pause", "setitimer"},
    "multiprocessing": {"set_start_method", "get_context"},
}
POSIX_PLACES = ("/tmp", "/proc", "/dev/", "/sys/", "/etc/", "/usr/", "/home/")
TEXT = {"read_text", "write_text"}


def faults(source):
    """Yield line and name of what would break."""
    for node in ast.walk(ast.parse(source)):
        found = [*_imports(node), *_names(node), *_texts(node)]
        yield from ((node.lineno, name) for name in found)


def _imports(node):
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names if name.name.partition(".")[0] in POSIX_MODULES)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        if node.module in POSIX_MODULES:
            yield node.module
        yield from {name.name for name in node.names} & POSIX_NAMES.get(node.module or "", set())


def _names(node):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in POSIX_NAMES.get(node.value.id, set()):
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(POSIX_PLACES):
        yield node.value


def _texts(node):
    if isinstance(node, ast.Call) and not any(keyword.arg == "encoding" for keyword in node.keywords):
        if isinstance(node.func, ast.Attribute) and node.func.attr in TEXT:
            yield f"{node.func.attr} without encoding"
        elif _opens_text(node):
            yield "open without encoding"


def _opens_text(call):
    if isinstance(call.func, ast.Name):
        is_open, place = call.func.id == "open", 1
    else:
        is_open, place = isinstance(call.func, ast.Attribute) and call.func.attr == "open", 0
    modes = call.args[place : place + 1] + [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else None
    return is_open and isinstance(mode, str) and set(mode) <= set("rwax+")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_nothing_that_only_posix_has(path):
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from resource import getrusage",
        "from os import fork",
        "pid = os.fork()",
        "signal.signal(signal.SIGKILL, handler)",
        "multiprocessing.set_start_method('fork')",
        "folder = '/tmp/cache'",
        "path.read_text()",
        "open(path, 'w')",
        "path.open('a')",
    ],
)
def test_the_test_sees_it(source):
    assert len(list(faults(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["path.open('rb')", "open(path, 'wb')", "path.read_text(encoding='utf-8')", "signal.SIGINT", "Image.open(path)"],
)
def test_the_test_lets_the_rest_pass(source):
    assert list(faults(source)) == []
