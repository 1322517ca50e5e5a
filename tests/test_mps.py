"""Runs `mps_checks.py` in a process of its own: torch does not forget a device, and asks it for what others are asked."""

import os
from pathlib import Path

import pytest
from torch.utils import backend_registration

from . import forks


PYTEST = "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', sys.argv[1]]))"


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="torch 2.6 has no device of Python",
)
def test_nothing_on_a_device_needs_float64(tmp_path):
    checks, log = Path(__file__).with_name("mps_checks.py"), tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    status = forks.run(PYTEST, checks, log=log, environment=environment)
    assert status == 0, log.read_text()
    assert " passed" in log.read_text()
