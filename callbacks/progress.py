"""Callback that shows the progress of a training stage: a bar on a terminal, elsewhere a plain line every few seconds."""

import sys
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_BATCHES = 50
"""Number of batches between two updates of the bar, or two checks of whether a line is due."""


class StageProgress(ProgressBar):
    """Shows one bar or line for the complete stage, with the estimated remaining time."""

    def __init__(self, *, stage: str, shown: tuple[str, ...], at_most: bool, every_seconds: float) -> None:
        """Create the callback.

        Args:
            stage: Name of the stage.
            shown: Names of the logged values to show, where they exist.
            at_most: Whether the stage may end before its last epoch, so that the remaining time is an upper bound.
            every_seconds: Minimum time between two lines [s].

        """
        super().__init__()
        self.stage, self.shown, self.at_most, self.every_seconds = stage, shown, at_most, every_seconds
        self._enabled = True
        self._bar: Progress | None = None

    def disable(self) -> None:
        """Hide the progress; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the progress again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        self._start = self._printed = time.monotonic()
        self._done_before = self._share(trainer)
        if self._enabled and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, transient=True)
            self._task = self._bar.add_task(self.stage, total=None if self._done_before is None else 1.0)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar, or print a line if one is due, every `EVERY_BATCHES` batches."""
        if self._enabled and batch_idx % EVERY_BATCHES == 0:
            self._show(trainer, print_line=lambda text: print(text, file=sys.stderr, flush=True))

    def _show(self, trainer: L.Trainer, print_line: Callable[[str], None]) -> None:
        share = self._share(trainer)
        if self._bar is not None:
            self._bar.update(self._task, completed=share or 0.0, description=self._text(trainer))
        elif time.monotonic() - self._printed >= self.every_seconds:
            self._printed = time.monotonic()
            print_line(self._text(trainer) + ("" if share is None else f"  {share:4.0%}  {self._left(share)}"))

    def _left(self, share: float) -> str:
        """Return a text with the estimated remaining time, from the mean speed of this fit so far."""
        done = share - (self._done_before or 0.0)
        if done <= 0:
            return ""
        left = (time.monotonic() - self._start) * (1 - share) / done
        return f"{'at most ' if self.at_most else ''}{_clock(left)} left"

    def _share(self, trainer: L.Trainer) -> float | None:
        """Return the share of the stage that is done, or None if `max_epochs` is unlimited."""
        epochs, batches = trainer.max_epochs or 1, trainer.num_training_batches
        if epochs < 0:
            return None
        done = trainer.current_epoch + trainer.fit_loop.epoch_loop.batch_progress.current.completed / max(batches, 1)
        return min(done / epochs, 1.0)

    def _text(self, trainer: L.Trainer) -> str:
        values = trainer.callback_metrics
        shown = [f"{name.split('/')[-1]} {float(values[name]):.4g}" for name in self.shown if name in values]
        last = "" if trainer.max_epochs == -1 else f"/{trainer.max_epochs}"
        return f"{self.stage}  epoch {trainer.current_epoch + 1}{last}  " + "  ".join(shown)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        self._close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
