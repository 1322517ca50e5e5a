import platform
import subprocess
import sys

import pytest

from difface_diffusers.acceleration import allocation
from difface_diffusers.acceleration.allocation import keep_freed_memory


SCRIPT = """
import ctypes
import resource
import runpy
import sys

keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]  # without the seconds that the package takes
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p


def use_memory(size=100_000_000):
    memory = ctypes.c_void_p(library.malloc(size))
    library.memset(memory, 1, size)
    library.free(memory)


for keep in sys.argv[2:]:
    keep_freed_memory(keep == "keep")
    use_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use_memory()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_kept_memory_is_not_mapped_again():
    for _ in range(8):  # in some processes the heap has no room to grow
        command = [sys.executable, "-c", SCRIPT, allocation.__file__, "return", "keep", "return"]
        answer = subprocess.run(command, capture_output=True, check=True)
        returned, kept, returned_again = map(int, answer.stdout.split())
        assert returned_again > returned / 2
        if kept < returned / 10:
            return
    pytest.fail("no process kept its memory")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    keep_freed_memory()
