"""Files that are whole or absent, whenever the process dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; at the end of the block it is flushed to disk and renamed.

    In the same folder, since a rename is atomic within one file system alone.
    """
    aside = target.with_name(f".{target.name}.part")
    yield aside
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(aside, target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
