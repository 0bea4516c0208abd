"""Ctrl-C, SIGTERM and SIGUSR1 become a request that training honours at the next batch boundary."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch.callbacks import LambdaCallback

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""SIGUSR1, which Windows lacks, is what SLURM sends before a job's time is up, if asked to."""
DUPLICATE_SECONDS = 0.5
"""Seconds in which a second signal is the first one again: who stops a whole job sends it to a process and to its parent."""


def block_signals(how: int = getattr(signal, "SIG_BLOCK", 0)) -> None:
    """Lets signals wait, in this thread and the processes that it starts, until someone watches; or no longer."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, SIGNALS)


class SignalHandler:
    """Remembers the signal that arrived; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._at = 0.0
        self._tell: Callable[[], None] = lambda: None

    @contextmanager
    def installed(self, tell: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Takes over the signals inside the block; `tell` is called when one arrives."""
        self._tell = tell
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._take()
        block_signals(getattr(signal, "SIG_UNBLOCK", 0))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reinstall_callback(self) -> LambdaCallback:
        """Takes the signals back from Lightning, whose handler waits for all ranks: a signal may come to one alone."""
        return LambdaCallback(on_train_start=lambda trainer, module: self._take())

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # where neither this nor Lightning can take any
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now, before = time.monotonic(), self._at
        self._at = now
        if self.received is not None:
            if now - before < DUPLICATE_SECONDS:
                return
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        self._tell()
