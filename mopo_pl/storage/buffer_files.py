"""Refreshes of the model buffer on disk: one file each, written once, which checkpoints name with its hash."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopo_pl.distributed.collectives import rank
from mopo_pl.errors import InputError
from mopo_pl.storage.atomic_write import atomic_write, sha256_of


class RefreshFiles:
    """Keeps rows in `folder`. Saving a run again costs only the refreshes that are new since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[int, dict[str, Any]] = {}

    def keep(self, number: int, rows: Tensor) -> dict[str, Any]:
        """Writes refresh `number` [n, W] unless it is there, whole; gives the file's name, SHA-256, shape and type."""
        if number not in self._kept:
            array = np.ascontiguousarray(rows.cpu().numpy())
            digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
            path = self.folder / f"{number:06d}-{rank()}-{digest[:16]}.rows"
            if sha256_of(path) != digest:
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

    def fetch(self, number: int, entry: dict[str, Any]) -> Tensor:
        """The rows of an entry that `keep` gave [n, W]; raises InputError where the file is missing or was changed."""
        path = self.folder / entry["file"]
        if sha256_of(path) != entry["sha256"]:
            raise InputError(f"{path} is missing or was changed since the checkpoint that names it")
        self._kept[number] = entry
        return torch.from_numpy(np.fromfile(path, entry["dtype"]).reshape(entry["shape"]))

    def drop_before(self, number: int) -> None:
        """Lets go of refreshes that the model buffer has dropped; their files leave with the checkpoints that name them."""
        self._kept = {kept: entry for kept, entry in self._kept.items() if kept >= number}
