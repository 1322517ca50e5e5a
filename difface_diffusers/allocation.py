"""What the C library does with memory that a network frees between two layers."""

import ctypes
import platform


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
NEVER, MAPPINGS = -1, 65536  # the latter is glibc's default


def keep_freed_memory(keep: bool = True) -> None:
    """Let this process keep large memory that is freed for its next use, instead of returning it to the system.

    The system clears every page that it hands out, and maps it when it is first touched; at 512 pixels that takes a quarter of
    the time of a network's call on two cores. The process stays as large as it once was. Nothing happens where the C library
    is not glibc.

    Args:
        keep: `False` returns memory again, as glibc does by default.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0 if keep else MAPPINGS)
    mallopt(M_TRIM_THRESHOLD, NEVER if keep else 128 * 1024)
