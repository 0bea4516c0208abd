"""Runs through the public entry, as small as they can be."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY

from mopo_pl.cli import main
from mopo_pl.distributed.signals import SignalHandler


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """The arguments that every run here shares."""
    return TINY


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Runs with more arguments, and gives the run folder of that name."""

    def run(name: str, *arguments: str, code: int = 0) -> Path:
        assert main([*TINY, *arguments, f"run_dir={tmp_path / name}"]) == code
        return tmp_path / name

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through, with twelve evaluations. Read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*TINY, "trainer.max_epochs=12", "sac.updates_per_epoch=5", f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], int]:
    """Lets runs believe that SIGINT arrived during their n-th batch, of both stages counted through; None: never.

    Gives the batches made since it was called before.
    """
    state: dict[str, int | None] = {"at": None}
    asked = []

    def received(watch: SignalHandler) -> int | None:
        # Training asks once a batch.
        asked.append(watch)
        return signal.SIGINT if len(asked) == state["at"] else None

    def arm(at: int | None) -> int:
        made = len(asked)
        asked.clear()
        state["at"] = at
        return made

    watch = type("StoppingWatch", (SignalHandler,), {"received": property(received, lambda self, value: None)})
    monkeypatch.setattr("mopo_pl.run.session.SignalHandler", watch)
    return arm


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """The rows of a run's metrics.jsonl."""
    return lambda folder: [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def same_weights() -> Callable[[Path, Path, str], bool]:
    """Whether two runs' files of that name hold the same bits."""

    def compare(first: Path, second: Path, file: str) -> bool:
        ours, theirs = load_file(first / file), load_file(second / file)
        return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    return compare
