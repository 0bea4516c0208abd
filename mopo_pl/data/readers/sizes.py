"""Whether a file can hold what it declares, asked before memory is taken for it."""

import os
from pathlib import Path

from mopo_pl.errors import InputError

MOST_PACKED = 200
"""How often larger than its file a log may be; columns of zeros alone are packed more tightly."""
ALWAYS_READ = 2**28
"""Size up to which that does not matter [bytes]."""


def refuse_oversized(path: Path, declared: int) -> None:
    """Raise InputError where the arrays of a file are larger than memory, or than such a file can hold [bytes]."""
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
    """The first line of an error, cut where it is long."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= longest else f"{line[:longest]}…"
