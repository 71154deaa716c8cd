"""The C library's memory: what a process has freed stays with it."""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # the numbers of mallopt's parameters in malloc.h of the GNU C library
SETTINGS = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"}


def keep() -> None:
    """Have freed memory stay in the process for its next tensors, on Linux with the GNU C library.

    By default it goes back to the system, which fills every page with zeros before it gives it out again: at each step
    of a network whose tensors have megabytes, and for each batch of Inception. The process has its peak until it ends.
    A user's settings are left alone: the variables SETTINGS, and glibc.malloc in GLIBC_TUNABLES.
    """
    if SETTINGS & os.environ.keys() or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        library.mallopt(TRIM_THRESHOLD, -1)  # never
        library.mallopt(MMAP_MAX, 0)  # and no large piece apart, which would go back at once
