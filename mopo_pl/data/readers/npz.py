"""`.npz` logs: plain arrays under the names people use for them."""

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
"""First bytes of a single array."""
ENVIRONMENT = ("env_id", "env_kwargs")
"""Keys that say where a log comes from."""
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise of damaged archives."""


def read_npz(path: Path, columns: Columns) -> RawLog:
    """Read a log; `env_id` and `env_kwargs` (JSON), each a single text, are taken where the file has them.

    Raises InputError where the file is damaged or a key is missing.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(_no_archive(path))
        # Opened here: NumPy leaves a damaged file open that it opened itself.
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
    """Of every member, from the headers alone; () for what is no array. Refuses sizes that cannot be."""
    assert file.zip is not None
    members, shapes, declared = set(file.zip.namelist()), {}, 0
    for key in file.files:
        name = f"{key}.npy" if f"{key}.npy" in members else key
        with file.zip.open(name) as member:
            shapes[key], size = _header(member)
        # Neither is to be believed: the archive's directory, or the array's own header.
        declared += max(size, file.zip.getinfo(name).file_size)
    refuse_oversized(path, declared)
    return shapes


def _header(member: IO[bytes]) -> tuple[Shape, int]:
    """Shape and bytes that an array declares."""
    try:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        return (), 0
    return shape, math.prod(shape) * dtype.itemsize


def _member(file: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    """One array of the archive, which may also hold pickles and other files."""
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
