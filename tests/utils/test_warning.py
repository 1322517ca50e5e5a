import sys
import warnings
from importlib import import_module

import pytest

from difface_diffusers.utils.warning import warn_user
from tests.conftest import warned_at


def module(name, code):
    """A module that is elsewhere on disk, so that only its name says where it belongs."""
    names = {"__name__": name, "warn_user": warn_user}
    exec(compile(code, f"/{name}.py", "exec"), names)
    return names


def test_points_to_the_line_that_calls_the_package(recwarn):
    inner = module("difface_diffusers.inner", "def warn():\n    warn_user('careful')\n")
    outer = module("difface_diffusers.outer", "def run(work):\n    work()\n")
    outer["run"](inner["warn"])
    (warning,) = recwarn
    assert (warning.filename, warning.category, str(warning.message)) == (__file__, UserWarning, "careful")
    assert warning.lineno == sys._getframe().f_lineno - 3


def test_a_package_of_another_name_is_a_user():
    other = module("difface_diffusers_extras", "def run():\n    warn_user('careful', FutureWarning)\n")
    with warned_at("/difface_diffusers_extras.py", "careful", FutureWarning):
        other["run"]()


def test_an_import_is_the_line_that_imports(tmp_path, monkeypatch):
    (tmp_path / "warns_of_itself.py").write_text(
        "from difface_diffusers.utils.warning import warn_user\n__name__ = 'difface_diffusers.new'\nwarn_user('careful')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with warned_at(__file__, "careful"):
        import_module("warns_of_itself")


def test_is_shown_once_a_line_and_may_be_an_error():
    names = module("user", "def run():\n    for _ in range(3):\n        warn_user('careful')\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        names["run"]()
    assert len(caught) == 1
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="careful"):
        warnings.simplefilter("error")
        names["run"]()
