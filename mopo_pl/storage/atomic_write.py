"""Files that are whole or absent, whenever the process dies, and the hash by which damage is noticed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mopo_pl.errors import Unwritable


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; at the end of the block it is flushed to disk and renamed.

    In the same folder, since a rename is atomic within one file system alone. Raises Unwritable, and leaves what was
    there before, where the disk is full or the folder may not be written.
    """
    aside = target.with_name(f".{target.name}.part")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, target)
        _flush_folder(target.parent)
    except OSError as error:
        _discard(aside)
        raise Unwritable(target, error) from error
    except BaseException:
        _discard(aside)
        raise


def sha256_of(path: Path) -> str | None:
    """The file's SHA-256; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _discard(aside: Path) -> None:
    with suppress(OSError):
        aside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Makes the rename itself durable."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
