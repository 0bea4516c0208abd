"""`.npz` logs: plain arrays under the names people use for them."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.raw_log import RawLog
from mopo_pl.errors import InputError

NAMES: dict[str, tuple[str, ...]] = {
    "observations": ("obs", "observations", "observation"),
    "actions": ("action", "actions"),
    "rewards": ("reward", "rewards"),
    "terminals": ("done", "terminal", "terminals", "terminations"),
    "next_observations": ("next_obs", "next_observations"),
    "timeouts": ("timeout", "timeouts", "truncated", "truncations"),
}
"""Each field, and the keys under which it is looked for. `done` means terminal: a time limit belongs in `timeouts`."""
NPY = b"\x93NUMPY"
"""First bytes of a single array."""
OPTIONAL = ("next_observations", "timeouts")
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise of damaged archives."""


def read_npz(path: Path) -> RawLog:
    """Reads a log; raises InputError where the file is damaged or a key is missing."""
    try:
        if not zipfile.is_zipfile(path) and not path.read_bytes()[:6] == NPY:
            raise InputError(
                f"{path} cannot be read as .npz: it is damaged, being no archive or one that was cut short"
            )
        # Opened here: NumPy leaves a damaged file open that it opened itself.
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(
                    f"{path} holds a single array without a name; write logs by np.savez(path, observations=…, …)"
                )
            with file:
                found = find_keys(file.files, str(path), NAMES)
                arrays: dict[str, Any] = {name: _member(file, key, path) for name, key in found.items()}
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read as .npz: it is damaged or no such file ({error})") from error
    return RawLog(source=str(path), keys=found, **arrays)


def _member(file: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    """One array of the archive, which may also hold pickles and other files."""
    try:
        member = file[key]
    except ValueError as error:
        raise InputError(f"{path}: {key} cannot be read: it is damaged or no array of numbers ({error})") from error
    if not isinstance(member, np.ndarray):
        raise InputError(f"{path}: {key} cannot be read: it is damaged or no array of numbers")
    return member


def find_keys(present: list[str], source: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Which key of the file holds each field; raises InputError that names every missing one."""
    found, problems = {}, []
    for name, keys in names.items():
        matches = [key for key in keys if key in present]
        if len(matches) > 1:
            problems.append(f"{source} has {' and '.join(matches)}: which one holds the {name}? Remove the other")
        elif matches:
            found[name] = matches[0]
        elif name not in OPTIONAL:
            problems.append(f"{source} has no {name}: none of {', '.join(keys)} among its keys {', '.join(present)}")
    if problems:
        raise InputError(problems)
    return found
