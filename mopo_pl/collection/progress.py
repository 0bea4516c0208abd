"""Show the progress of a collection: a bar on a terminal, elsewhere a line every few seconds."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_STEPS = 200
LINE_SECONDS = 5.0


class StepProgress:
    """A context manager that shows the number of steps while it is open."""

    def __init__(self, name: str, steps: int, done: int) -> None:
        """Set up the progress of `steps` steps, of which `done` were taken before. `name`: text before the numbers."""
        self._name, self._steps, self._before = name, steps, done
        self._start = self._printed = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "StepProgress":
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, transient=True, console=Console(stderr=True))
            self._task = self._bar.add_task(self._name, total=self._steps, completed=self._before)
            self._bar.start()
        return self

    def at(self, done: int) -> None:
        """Update the progress, when `done` steps are taken. Most calls do nothing."""
        if done % EVERY_STEPS:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            left = (self._printed - self._start) * (self._steps - done) / (done - self._before)
            print(f"{self._name}  {done}/{self._steps} steps  {left:.0f} s left", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
