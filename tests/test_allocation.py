import platform
import subprocess
import sys

import pytest

from difface_diffusers import allocation
from difface_diffusers.allocation import keep_freed_memory


SCRIPT = """
import resource
import sys
import torch
from difface_diffusers.allocation import keep_freed_memory

for keep in sys.argv[1:]:
    keep_freed_memory(keep == "keep")
    torch.ones(100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(100_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_kept_memory_is_not_mapped_again():
    for _ in range(8):  # in some processes the heap has no room to grow
        answer = subprocess.run(
            [sys.executable, "-c", SCRIPT, "return", "keep", "return"], capture_output=True, check=True
        )
        returned, kept, returned_again = map(int, answer.stdout.split())
        assert returned_again > returned / 2
        if kept < returned / 10:
            return
    pytest.fail("no process kept its memory")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    keep_freed_memory()
