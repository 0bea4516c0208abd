"""Memory that a computation has freed: whether the C library hands it back to the system, or keeps it for the next call."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h
LARGEST_ON_HEAP = 32 * 2**20
"""Bytes; glibc takes no more."""
LARGEST_KEPT = 256 * 2**20
"""Bytes free at the heap's end. Several blocks' worth: a small one that lives in between sends the next large one further up."""


def keep_freed_memory() -> bool:
    """Keeps blocks of up to 32 MiB, and up to 256 MiB freed at the heap's end, for this process; False where libc is not glibc.

    A compiled update takes and frees some megabytes at each call. glibc would return them, and the next call would wait for
    the system to clear a thousand pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST_ON_HEAP) and libc.mallopt(TRIM_THRESHOLD, LARGEST_KEPT))
