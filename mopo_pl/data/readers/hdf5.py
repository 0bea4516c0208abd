"""`.hdf5` logs with D4RL's keys (Fu et al. 2020)."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mopo_pl.data.raw_log import RawLog
from mopo_pl.data.readers.npz import find_keys
from mopo_pl.errors import InputError

NAMES: dict[str, tuple[str, ...]] = {
    name: (name,) for name in ("observations", "actions", "rewards", "terminals", "next_observations", "timeouts")
}


def read_hdf5(path: Path) -> RawLog:
    """Reads a log; the attributes `env_id` and `env_kwargs` (JSON) are taken where the file has them.

    Raises InputError where the file is damaged or a key is missing.
    """
    try:
        with h5py.File(path, "r") as file:
            found = find_keys(list(file.keys()), str(path), NAMES)
            arrays: dict[str, Any] = {name: _array(file, key, path) for name, key in found.items()}
            env_id, env_kwargs = file.attrs.get("env_id"), file.attrs.get("env_kwargs", "{}")
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path} cannot be read as HDF5: it is damaged or cut short ({error})") from error
    return RawLog(
        source=str(path),
        keys=found,
        env_id=None if env_id is None else _text(env_id),
        env_kwargs=_arguments(_text(env_kwargs), path),
        **arrays,
    )


def _array(file: h5py.File, key: str, path: Path) -> np.ndarray:
    item = file[key]
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path}: {key} is a group, not an array")
    if item.shape is None:
        raise InputError(f"{path}: {key} is empty; it has no shape")
    return item[()]


def _text(attribute: Any) -> str:
    """h5py gives text of fixed length as bytes."""
    return attribute.decode(errors="replace") if isinstance(attribute, bytes) else str(attribute)


def _arguments(text: str, path: Path) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: the attribute env_kwargs must be a JSON object such as {{}}, not {text}")
    return arguments
