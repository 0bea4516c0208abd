"""Checks that a file can hold the data that it declares, made before memory is allocated for them."""

import os
from pathlib import Path

from mopo_pl.errors import InputError

MOST_PACKED = 200
"""Largest accepted ratio of the size of a log to that of its file. Only columns of zeros are compressed more than that."""
ALWAYS_READ = 2**28
"""Size in bytes up to which the ratio is not checked."""


def refuse_oversized(path: Path, declared: int) -> None:
    """Raise InputError if arrays of `declared` bytes are larger than memory, or larger than a file of this size can hold."""
    stored = path.stat().st_size
    if declared > _memory():
        raise InputError(
            f"{path} declares arrays of {_shown(declared)}; this machine has {_shown(_memory())} of memory"
        )
    if declared > max(ALWAYS_READ, MOST_PACKED * stored):
        raise InputError(
            f"{path} declares arrays of {_shown(declared)} in a file of {_shown(stored)}: it is damaged, or made to fill "
            "the memory; write it again"
        )


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _shown(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def brief(error: BaseException, longest: int = 300) -> str:
    """Return the first line of an error, cut to `longest` characters."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= longest else f"{line[:longest]}…"
