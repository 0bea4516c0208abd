"""Refreshes of the model buffer on disk.

Each refresh is one file that is written once. A checkpoint stores the file's name and SHA-256 instead of its content.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopo_pl.distributed.collectives import rank
from mopo_pl.errors import InputError
from mopo_pl.storage.atomic_write import atomic_write, sha256_of


class RefreshFiles:
    """The files in `folder` that hold the refreshes of the model buffer.

    A refresh is immutable: saving a run again writes only the refreshes that were added since the last save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[int, dict[str, Any]] = {}

    def keep(self, number: int, rows: Tensor) -> dict[str, Any]:
        """Write the transitions [N, W] of refresh `number` unless an undamaged file of them exists.

        Returns the entry that a checkpoint stores: the file's name, SHA-256, shape and data type.
        """
        if number not in self._kept:
            array = np.ascontiguousarray(rows.cpu().numpy())
            digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
            path = self.folder / f"{number:06d}-{rank()}-{digest[:16]}.rows"
            if sha256_of(path, array.nbytes) != digest:
                self.folder.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as aside:
                    array.tofile(aside)
            self._kept[number] = {
                "file": path.name,
                "sha256": digest,
                "shape": list(array.shape),
                "dtype": array.dtype.name,
            }
        return self._kept[number]

    def holds(self, entry: dict[str, Any]) -> bool:
        """Return whether the file of an entry returned by `keep` exists and has its SHA-256."""
        try:
            size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        except (TypeError, ValueError):
            return False
        return sha256_of(self._path(entry), size) == entry["sha256"]

    def _path(self, entry: dict[str, Any]) -> Path:
        # A checkpoint from elsewhere must not name a file outside the folder.
        return self.folder / Path(entry["file"]).name

    def fetch(self, number: int, entry: dict[str, Any]) -> Tensor:
        """Read the transitions [N, W] of an entry returned by `keep`.

        Raises InputError if the file is missing or its SHA-256 differs.
        """
        path = self._path(entry)
        if not self.holds(entry):
            raise InputError(f"{path} is missing or differs from the file that the checkpoint refers to")
        try:
            rows = torch.from_numpy(np.fromfile(path, entry["dtype"]).reshape(entry["shape"]))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} does not have the shape that the checkpoint gives it ({error})") from error
        self._kept[number] = entry
        return rows

    def drop_before(self, number: int) -> None:
        """Forget the refreshes that the model buffer has dropped.

        Their files are removed by `CheckpointFiles.prune` once no checkpoint refers to them.
        """
        self._kept = {kept: entry for kept, entry in self._kept.items() if kept >= number}
