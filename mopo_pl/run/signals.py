"""Ctrl-C and SIGTERM become a request that training honours at the next batch boundary."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM)


class SignalWatch:
    """Remembers the signal that arrived; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes over the signals inside the block."""
        before = {number: signal.signal(number, self._receive) for number in WATCHED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
