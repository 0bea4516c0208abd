"""Cache arrays that take long to compute in the user's cache folder, under a key that identifies their source."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

LIMIT = 10_000_000_000
"""Largest total size of the files [bytes]. Beyond it, the least recently used files are removed."""
ABANDONED = 3600
"""Age from which an unfinished file is taken as left by a killed process, and removed [s]."""


def cache_folder(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/mopo_pl/NAME`, by default `~/.cache/mopo_pl/NAME`."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "mopo_pl" / name


def load(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and values stored under a key; None if there are none, or they are damaged."""
    path = folder / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            values = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  the file is not a dict
        if values.get("checksum") != _checksum(tensors, values["values"]):
            raise ValueError("damaged")
        os.utime(path)
        return tensors, json.loads(values["values"])
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError):
        with suppress(OSError):
            path.unlink()
        return None


def store(folder: Path, key: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Store tensors and values under a key. Nothing is stored if the folder cannot be written or the disk is nearly full.

    Several processes may store at the same time, because a file is renamed when it is complete. Raises TypeError or ValueError if the
    values cannot be written as JSON.
    """
    text = json.dumps(values, allow_nan=False)
    size = sum(tensor.nbytes for tensor in tensors.values())
    with suppress(OSError, SafetensorError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if size > min(LIMIT, shutil.disk_usage(folder).free / 2):
            return
        number, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        os.close(number)
        try:
            save_file(dict(tensors), name, {"values": text, "checksum": _checksum(tensors, text)})
            os.replace(name, folder / f"{key}.safetensors")
        finally:
            Path(name).unlink(missing_ok=True)
        _limit(folder)


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return np.atleast_1d(tensor.contiguous().numpy()).view(np.uint8).data


def _limit(folder: Path) -> None:
    """Remove the least recently used files beyond `LIMIT`, and unfinished files of killed processes."""
    now, left = time.time(), LIMIT
    files = [(path.stat(), path) for path in folder.iterdir()]
    for status, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        if path.name.startswith(".part-"):
            old = now - status.st_mtime > ABANDONED
        else:
            left -= status.st_size
            old = left < 0
        if old:
            path.unlink(missing_ok=True)
