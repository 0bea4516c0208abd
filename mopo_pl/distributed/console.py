"""Console output of the first process only."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning.fabric.utilities.rank_zero  # noqa: F401  sets rank_zero_only.rank from the launcher's variables
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@rank_zero_only
def print_once(text: str) -> None:
    """Print text to standard output on rank 0 only."""
    print(text, flush=True)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error while the block runs, on rank 0 and on a terminal only.

    Yields a function of how much of `total` is done and, optionally, of a new text.
    """
    if not sys.stderr.isatty() or getattr(rank_zero_only, "rank", 0) != 0:
        yield lambda done, text=None: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done, text=None: bar.update(task, completed=done, description=text)


@contextmanager
def parts(command: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show on standard error which part of a command runs, on rank 0 only: a bar on a terminal, elsewhere one line per part.

    Yields a function to call with the name of each part when it begins. `total`: number of parts.
    """
    began, done = time.monotonic(), 0
    with progress(command, total) as bar:

        def begin(part: str) -> None:
            nonlocal done
            bar(done, f"{command}: {part}")
            done += 1
            if not sys.stderr.isatty() and getattr(rank_zero_only, "rank", 0) == 0:
                after = time.monotonic() - began
                print(f"{command}  {done}/{total}  {part}  (after {after:.0f} s)", file=sys.stderr, flush=True)

        yield begin
