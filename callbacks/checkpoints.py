"""When a run is saved: at epoch ends at intervals, and when a signal asks it to stop."""

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
    """The run was asked to stop by a signal and has saved itself. `code` is the exit code, 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class Checkpoints(Checkpoint):
    """Saves `<stage>-<epoch>-<batch>.ckpt` at epoch ends at least `every_minutes` apart and at the end of the stage.

    A `lightning` Checkpoint, so that it runs after all other callbacks. When `signalled` gives a number, it saves at the
    next batch's end and raises `Interrupted`; never on an epoch's last batch, as such a file would skip the epoch's end
    when resumed, but at the epoch's end then. The newest two files of the stage are kept, and the one with the highest
    `best_by`.
    The Trainer needs the plugin `ChecksummedCheckpointIO`.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        *,
        every_minutes: float,
        signalled: Callable[[], int | None],
        best_by: Callable[[], float | None],
    ) -> None:
        """`files`: where the stage's checkpoints are. `every_minutes`: minimum time between two [minutes]. `signalled`: number of
        the received signal; None: none. `best_by`: mean return of the present weights, higher is better; None: not evaluated.
        """
        self.files, self.every_minutes, self.signalled, self.best_by = files, every_minutes, signalled, best_by
        self._saved_at = self._counted_to = time.monotonic()
        self._seconds = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the plugin; raise InputError where the Trainer writes checkpoints by another one."""
        if stage == "fit" and not isinstance(trainer.strategy.checkpoint_io, ChecksummedCheckpointIO):
            raise InputError(
                "Checkpoints needs a Trainer that writes them whole: Trainer(plugins=[ChecksummedCheckpointIO()])"
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks."""
        self._saved_at = self._counted_to = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on the stage, over all its resumptions."""
        now = time.monotonic()
        self._seconds += now - self._counted_to
        self._counted_to = now
        return self._seconds

    def state_dict(self) -> dict[str, Any]:
        """The time spent on the stage."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time saved by `state_dict`."""
        self._seconds = float(state_dict["seconds"])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, and raise `Interrupted`, if a signal was received."""
        if not trainer.is_last_batch:
            self._leave_if_signalled(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save when due; save and raise `Interrupted` if a signal was received."""
        self._leave_if_signalled(trainer)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if last or trainer.strategy.broadcast(time.monotonic() - self._saved_at >= 60 * self.every_minutes):
            self.save(trainer)

    def _leave_if_signalled(self, trainer: L.Trainer) -> None:
        # A signal may reach one rank alone, or the ranks at different batches, and all must save the same one.
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
