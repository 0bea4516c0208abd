"""Ctrl-C, SIGTERM and SIGUSR1 become a request that training honours at the next batch boundary."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch.callbacks import LambdaCallback

WATCHED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""SIGUSR1, which Windows lacks, is what SLURM sends before a job's time is up, if asked to."""


class SignalWatch:
    """Remembers the signal that arrived; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._tell: Callable[[], None] = lambda: None

    @contextmanager
    def watching(self, tell: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Takes over the signals inside the block; `tell` is called when one arrives."""
        self._tell = tell
        before = {number: signal.getsignal(number) for number in WATCHED}
        self._take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def keeping(self) -> LambdaCallback:
        """Takes the signals back from Lightning, whose handler waits for all ranks: a signal may come to one alone."""
        return LambdaCallback(on_train_start=lambda trainer, module: self._take())

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # where neither this nor Lightning can take any
        for number in WATCHED:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        self._tell()
