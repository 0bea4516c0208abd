"""Checkpoints that are whole or absent."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mopo_pl.whole_file import whole_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes by `whole_file`.

    Lightning's own writer copies across file systems where TMPDIR is another one, which leaves a torn file behind when
    the process dies in between.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """As the base class, but atomically and durably."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as aside:
            torch.save(checkpoint, aside)
