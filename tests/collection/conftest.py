"""Collections through the public entry, small, each in a folder of its own."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mopo_pl.__main__ import main
from mopo_pl.distributed.signals import SignalHandler


@pytest.fixture
def collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `collect Pendulum-v1` with the words of a line, in a folder of its own; the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, env_id: str = "Pendulum-v1") -> int:
        return main(["collect", env_id, *shlex.split(line)])

    return run


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Lets a training believe that SIGINT arrived when it asks for the n-th time; None: never."""
    state: dict[str, int | None] = {"at": None, "asked": 0}

    def received(watch: SignalHandler) -> int | None:
        state["asked"] = (state["asked"] or 0) + 1
        return signal.SIGINT if state["asked"] == state["at"] else None

    watch = type("StoppingWatch", (SignalHandler,), {"received": property(received, lambda self, value: None)})
    monkeypatch.setattr("mopo_pl.collection.command.SignalHandler", watch)

    def arm(at: int | None) -> None:
        state.update(at=at, asked=0)

    return arm
