"""Atomic writes: a file is either complete or absent, even if the process dies; SHA-256 to detect damage."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mopo_pl.errors import Unwritable


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`; at the end of the block, flush it to disk and rename it to `target`.

    The temporary file is in the folder of `target` because a rename is atomic only within one file system. On an
    exception the temporary file is removed and an existing `target` keeps its content. Raises Unwritable if the disk is
    full or the folder is not writable. A link that someone left at the temporary path is not followed.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "result.json") as temporary:
    ...         _ = temporary.write_text("{}")
    ...     [path.name for path in Path(folder).iterdir()]
    ['result.json']
    """
    aside = target.with_name(f".{target.name}.part")
    try:
        aside.unlink(missing_ok=True)
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
    """Return the SHA-256 of a file as hexadecimal digits, or None if it cannot be read, or is a pipe or a device."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _discard(aside: Path) -> None:
    with suppress(OSError):
        aside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entries to disk, so that the rename survives a power failure."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
