"""Handle SIGINT (Ctrl-C), SIGTERM and SIGUSR1, at which training stops at the end of the current batch."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not at run time: the policy server uses this module too, and must not import Lightning
    from lightning.pytorch.callbacks import LambdaCallback

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""The handled signals. SLURM can send SIGUSR1 before a job's time limit; Windows has no SIGUSR1."""
DUPLICATE_SECONDS = 0.5
"""A signal within this time after the first is a duplicate: job managers signal a process and its parent [s]."""


def block_signals(how: int = getattr(signal, "SIG_BLOCK", 0)) -> None:
    """Block the handled signals in this thread and in the processes it starts (SIG_BLOCK), or unblock them (SIG_UNBLOCK).

    A blocked signal stays pending until it is unblocked.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, SIGNALS)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class SignalHandler:
    """A signal handler that stores the number of the first signal. A second signal ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None  # number of the signal
        self._at = 0.0
        self._on_signal: Callable[[], None] = lambda: None

    @contextmanager
    def installed(self, on_signal: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Handle the signals inside the block and restore the previous handlers after it.

        `on_signal`: called when the first signal arrives. Outside the main thread nothing is installed, because
        Python allows signal handlers in the main thread only.
        """
        if not _in_main_thread():
            yield
            return
        self._on_signal = on_signal
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._take()
        block_signals(getattr(signal, "SIG_UNBLOCK", 0))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def overdue(self, seconds: float) -> int | None:
        """Return the number of the signal if it arrived more than `seconds` seconds ago, else None."""
        return self.received if self._at and time.monotonic() - self._at > seconds else None

    def reinstall_callback(self) -> "LambdaCallback":
        """Return a callback that replaces Lightning's signal handlers by this one at the start of training.

        Lightning's handlers wait for all ranks, but a signal may be sent to one rank only.
        """
        from lightning.pytorch.callbacks import LambdaCallback

        return LambdaCallback(on_train_start=lambda trainer, module: self._take())

    def _take(self) -> None:
        if _in_main_thread():
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
        self._on_signal()
