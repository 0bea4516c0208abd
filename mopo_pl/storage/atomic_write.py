"""Atomic writes: a file is either complete or absent, even if the process dies; SHA-256 to detect damage."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mopo_pl.errors import InputError, Unwritable


def refuse_unwritable(folder: Path, named: str = "") -> None:
    """Raise InputError if no file can be written into a folder, which need not exist yet. Nothing is written.

    Commands call it before they begin, so that an unwritable target is reported as wrong input (exit code 2), not as a failure.

    Args:
        folder: The folder. If it does not exist, the nearest existing folder above it is checked.
        named: Name of the argument on the command line, such as `--out`, for the message.

    >>> refuse_unwritable(Path(__file__) / "below", "--out")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mopo_pl.errors.InputError: --out ...atomic_write.py/below cannot be written (Not a directory): choose another folder

    """
    place = folder
    try:
        if "\0" in str(folder):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        while not place.is_dir():
            if place.is_symlink() or place.exists():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            place = place.parent
        if not os.access(place, os.W_OK | os.X_OK):
            number = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number))
    except OSError as error:
        raise _no_target(folder, named, error) from error


def make_target(folder: Path, named: str = "") -> None:
    """Make a folder and those above it; raise InputError if that fails. `named`: name of the argument on the command line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _no_target(folder, named, error) from error


def _no_target(folder: Path, named: str, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or error
    return InputError(f"{named}{' ' if named else ''}{folder} cannot be written ({why}): choose another folder")


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


def sha256_of(path: Path, size: int | None = None) -> str | None:
    """Return the SHA-256 of a file as hexadecimal digits, or None if it cannot be read, or is a pipe or a device.

    `size`: required size [bytes]. A file of another size is not read, and the result is None.
    """
    try:
        if not path.is_file() or (size is not None and path.stat().st_size != size):
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
