"""Callback that saves checkpoints at intervals at the end of epochs, and when a signal requests the end of the run."""

import signal
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from mopo_pl.distributed.collectives import max_over_ranks
from mopo_pl.errors import InputError
from mopo_pl.storage.checkpoints import CheckpointFiles, ChecksummedCheckpointIO


class Interrupted(Exception):
    """Exception raised after a signal requested the end of the run and a checkpoint was saved.

    `code` is the exit code of the process: 128 + signal number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class Checkpoints(Checkpoint):
    """Saves `<stage>-<epoch>-<batch>.ckpt` at epoch ends at least `every_minutes` apart and at the end of the stage.

    It subclasses Lightning's `Checkpoint`, so that the Trainer runs it after all other callbacks. When `signalled` returns a
    number, it saves at the end of the next batch and raises `Interrupted`. After the last batch of an epoch it waits for the
    end of the epoch, because a run resumed from a checkpoint of the last batch would skip the hooks of the epoch's end. The
    newest two files of the stage are kept, and the file with the highest `best_by`. The Trainer needs the plugin
    `ChecksummedCheckpointIO`.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        *,
        every_minutes: float,
        signalled: Callable[[], int | None],
        best_by: Callable[[], float | None],
    ) -> None:
        """Create the callback.

        Args:
            files: Checkpoint files of the stage.
            every_minutes: Minimum time between two checkpoints [minutes].
            signalled: Returns the number of the received signal, or None if there was none.
            best_by: Returns the mean return of the current weights (higher is better), or None if they were not evaluated.

        """
        self.files, self.every_minutes, self.signalled, self.best_by = files, every_minutes, signalled, best_by
        self._saved_at = self._counted_to = time.monotonic()
        self._seconds = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raise InputError if the Trainer writes checkpoints with another plugin than `ChecksummedCheckpointIO`."""
        if stage == "fit" and not isinstance(trainer.strategy.checkpoint_io, ChecksummedCheckpointIO):
            raise InputError(
                "Checkpoints needs a Trainer that writes them whole: Trainer(plugins=[ChecksummedCheckpointIO()])"
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks."""
        self._saved_at = self._counted_to = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on the stage, including earlier fits that were resumed [s]."""
        now = time.monotonic()
        self._seconds += now - self._counted_to
        self._counted_to = now
        return self._seconds

    def state_dict(self) -> dict[str, Any]:
        """Return the time spent on the stage."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time saved by `state_dict`."""
        self._seconds = float(state_dict["seconds"])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save a checkpoint and raise `Interrupted` if a signal was received, except after the last batch of an epoch."""
        if not trainer.is_last_batch:
            self._leave_if_signalled(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save a checkpoint when one is due. If a signal was received, save one and raise `Interrupted`."""
        self._leave_if_signalled(trainer)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if last or trainer.strategy.broadcast(time.monotonic() - self._saved_at >= 60 * self.every_minutes):
            self.save(trainer)

    def _leave_if_signalled(self, trainer: L.Trainer) -> None:
        # A signal may reach only one rank, or the ranks at different batches; all ranks must save after the same batch.
        number = max_over_ranks(self.signalled() or 0, trainer.strategy.root_device)
        if number:
            self.save(trainer)
            raise Interrupted(number)

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint and remove the files that are no longer kept."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        path, options = self.files.path(trainer.current_epoch, batch), {"score": self.best_by()}
        trainer.save_checkpoint(path, weights_only=False, storage_options=options)
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            self.files.prune()
