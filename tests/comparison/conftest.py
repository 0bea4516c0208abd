"""Sweeps of runs that take no time, and run folders without a run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.sweep import jobs

sys.path.insert(0, str(Path(__file__).parent))
from sweeping import start

SWEEPING = Path(__file__).with_name("sweeping.py")
SMALL = ["data.collect_steps=400", "trainer.accelerator=cpu", "compile=false"]


@pytest.fixture
def fast_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`python -m mopo_pl sweep` in a folder of the test's, whose runs are fake; gives the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "start_training", start)
    monkeypatch.setattr(jobs, "POLL", 0.01)

    def sweep(*arguments: str, mishaps: Mapping[str, str] | None = None) -> int:
        monkeypatch.setenv("MISHAPS", json.dumps(mishaps or {}))
        return main(["sweep", *SMALL, *arguments])

    return sweep


@pytest.fixture
def killed_sweep(tmp_path: Path) -> Callable[..., None]:
    """The same in a process of its own, that one of its runs kills by SIGKILL."""

    def sweep(*arguments: str, at: str) -> None:
        command = [sys.executable, str(SWEEPING), "sweep", *SMALL, *arguments]
        environment = {**os.environ, "MISHAPS": json.dumps({at: "kill"})}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == -9, done.stderr

    return sweep


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of a finished run that a comparison reads, as a run writes them."""

    def make(
        name: str,
        arguments: Sequence[str],
        *,
        returns: Sequence[float],
        curve: Sequence[float] = (),
        log: tuple[str, str] = ("pendulum", "aaaa0000bbbb1111"),
        env_id: str | None = "Pendulum-v1",
        seconds: float = 60.0,
        **changed: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = compose(arguments)
        (folder / "config.yaml").write_text(to_yaml(config))
        rows = [
            {"stage": "policy", "update": 1000 * number, "evaluation/return": value}
            for number, value in enumerate(curve, 1)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = {
            "behaviour_return": -850.0,
            "final_return": float(np.mean(returns)),
            "final_returns": list(returns),
            "last10_return": float(np.mean(curve[-10:])) if curve else None,
            "updates": 1000 * len(curve) or 1,
            "seconds": {"dynamics": None, "policy": seconds},
            "dataset": {"name": log[0], "hash": log[1]},
            "env_id": env_id,
            "seed": config.seed,
            **changed,
        }
        (folder / "result.json").write_text(json.dumps(result))
        os.utime(folder / "result.json", (1.7e9, 1.7e9))
        return folder

    return make
