"""A callback for `callbacks=[gpu_parts.kill:Kill]`: ends a process of a run by SIGKILL in the middle of an epoch."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L

from mopo_pl.sac.module import SACModule

WHERE = "GPU_CHECK_KILL"
"""Environment variable: the rank and the number of updates after which it ends, such as `0:30`; not set: none ends."""
TRACE = "killed"
"""File in the run's folder that is written at that moment."""


class Kill(L.Callback):
    """Ends the named process once the policy has had so many updates."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End it, if it is time."""
        if WHERE in os.environ and isinstance(pl_module, SACModule):
            rank, updates = map(int, os.environ[WHERE].split(":"))
            if trainer.global_rank == rank and pl_module.updates >= updates:
                Path(trainer.default_root_dir, TRACE).touch()
                os.kill(os.getpid(), signal.SIGKILL)
