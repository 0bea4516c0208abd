"""Reader of `.npz` logs: named arrays, one for each field."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from mopo_pl.data.readers.arrays import Shape, environment_arguments, log_of_arrays, stacked
from mopo_pl.data.readers.names import Columns, shown
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.readers.sizes import brief, refuse_oversized
from mopo_pl.errors import InputError

NPY = b"\x93NUMPY"
"""First bytes of an `.npy` file, which holds a single array."""
ENVIRONMENT = ("env_id", "env_kwargs")
"""Keys of the environment of a log."""
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Exceptions that NumPy and zipfile raise for damaged archives."""


def read_npz(path: Path, columns: Columns) -> RawLog:
    """Read a log, with the environment from `env_id` and `env_kwargs` (JSON), each a single text, if the file has them.

    Raises InputError if the file is damaged or lacks a key.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(_no_archive(path))
        # The file is opened here, as NumPy does not close a damaged file that it has opened itself.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            shapes = _shapes(file, path)
            log = log_of_arrays(
                str(path),
                shapes,
                lambda _, keys: stacked([_member(file, key, path) for key in keys], keys, str(path)),
                columns,
            )
            _take_environment(log, {key: _member(file, key, path) for key in ENVIRONMENT if key in shapes}, path)
            return log
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read as .npz: it is damaged or no such file ({brief(error)})") from error


def _take_environment(log: RawLog, texts: dict[str, np.ndarray], path: Path) -> None:
    for key, text in texts.items():
        if text.shape != () or text.dtype.kind != "U":
            raise InputError(f"{path}: {key} must be a single text, not an array of shape {text.shape} of {text.dtype}")
    if "env_id" in texts:
        log.env_id = str(texts["env_id"])
    if "env_kwargs" in texts:
        log.env_kwargs = environment_arguments(str(texts["env_kwargs"]), path)


def _no_archive(path: Path) -> str:
    with path.open("rb") as file:
        single = file.read(len(NPY)) == NPY
    if single:
        return f"{path} holds a single array without a name; write logs by np.savez(path, observations=…, …)"
    return f"{path} cannot be read as .npz: it is damaged, being no archive or one that was cut short"


def _shapes(file: np.lib.npyio.NpzFile, path: Path) -> dict[str, Shape]:
    """Return the shape of every member from its header, or () if it is not an array. Raises InputError for sizes that the file cannot hold."""
    assert file.zip is not None
    members, shapes, declared = set(file.zip.namelist()), {}, 0
    for key in file.files:
        name = f"{key}.npy" if f"{key}.npy" in members else key
        with file.zip.open(name) as member:
            shapes[key], size = _header(member)
        # Neither the size in the archive's directory nor that in the array's header can be trusted.
        declared += max(size, file.zip.getinfo(name).file_size)
    refuse_oversized(path, declared)
    return shapes


def _header(member: IO[bytes]) -> tuple[Shape, int]:
    """Return the shape and the size in bytes that the header of an array declares; () and 0 if it is not an array."""
    try:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        return (), 0
    return shape, math.prod(shape) * dtype.itemsize


def _member(file: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    """Read an array of the archive; raise InputError if the member is a pickle or another file."""
    try:
        member = file[key]
    except ValueError as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"{path}: {shown(key)} holds pickled Python objects, which are not opened; write one array of numbers with the rows of all "
                "episodes one after another (np.concatenate), and mark their last rows in timeouts"
            ) from error
        reason = f"it is damaged or no array of numbers ({brief(error)})"
        raise InputError(f"{path}: {shown(key)} cannot be read: {reason}") from error
    if not isinstance(member, np.ndarray):
        raise InputError(f"{path}: {shown(key)} cannot be read: it is damaged or no array of numbers")
    return member
