"""Standard output and error that do not stop a run if the pipe is closed, the disk is full, or a character cannot be encoded."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from mopo_pl.errors import Unwritable


class ForgivingStream:
    """A stream that drops text that cannot be written, instead of raising. `lost` is the first error, or None."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | ValueError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]  # for a terminal that supports only ASCII

    def write(self, text: str) -> int:
        """Write a text, unless writing has failed before; return the number of characters."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless writing has failed before."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        self.lost = error
        # Python flushes the stream again at exit, which would raise again.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Replace standard output and error inside the block by streams that do not raise, even if a stream is closed (`>&-`)."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (_forgiving(stream or nowhere) for stream in before)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before


def _forgiving(stream: Any) -> Any:
    return stream if isinstance(stream, ForgivingStream) else ForgivingStream(stream)


def show(text: str) -> None:
    """Print the output of a command. A pipe that is closed early (`--help | head`) is not an error.

    Raises Unwritable if standard output cannot be written for another reason, such as a full disk.
    """
    print(text, flush=True)
    lost = getattr(sys.stdout, "lost", None)
    if isinstance(lost, OSError) and not isinstance(lost, BrokenPipeError):
        raise Unwritable("standard output", lost)
