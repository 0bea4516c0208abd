"""Lines for the user, said once for all processes of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import lightning.fabric.utilities.rank_zero  # noqa: F401  reads this process's rank from its launcher
from lightning_utilities.core.rank_zero import rank_zero_only

_speaker: ContextVar[str] = ContextVar("speaker", default="")


@rank_zero_only
def say(text: str) -> None:
    """Prints lines to standard output."""
    print(signed(text), flush=True)


@contextmanager
def speaking_for(name: str) -> Iterator[None]:
    """Inside, every line names the one of several runs that it is about."""
    token = _speaker.set(name)
    try:
        yield
    finally:
        _speaker.reset(token)


def is_one_of_several() -> bool:
    """Whether other runs of this process write lines too."""
    return bool(_speaker.get())


def signed(text: str) -> str:
    """Each line after the name of the run that says it."""
    name = _speaker.get()
    return "\n".join(f"{name}  {line}" if line.strip() else line for line in text.split("\n")) if name else text
