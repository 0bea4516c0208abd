"""Runs to report on: one with everything, whose column names are hostile, and others that lack something."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mopo_pl.cli import main

OBSERVATIONS = ["<script>alert(1)</script>", "$x^2$ & co", "speed"]
SMALL = [
    *("threads=1", "compile=false", "trainer.accelerator=cpu", "logger=none", "env_id=Pendulum-v1"),
    *("dynamics.max_epochs=2", "dynamics.hidden_sizes=[16,16]", "dynamics.weight_decay=[0,0,0]"),
    *("sac.hidden_sizes=[16]", "sac.updates_per_epoch=10", "trainer.max_epochs=2", "rollout.starts=50"),
    *("rollout.horizon=4", "evaluation.episodes=1", "evaluation.final_episodes=2"),
    'data.columns.observation=["<script>alert(1)</script>", "$x^2$ & co", speed]',
    *("data.columns.action=[torque]", "data.columns.reward=reward", "data.columns.episode=run"),
]


Run = Callable[..., Path]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 steps of a pendulum under random torques, in 8 episodes."""
    path = tmp_path_factory.mktemp("table") / "log <i>.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*OBSERVATIONS, "torque", "reward", "run"])
        for run in range(8):
            angle, speed = rng.uniform(-math.pi, math.pi), rng.uniform(-1, 1)
            for _ in range(50):
                torque = rng.uniform(-2, 2)
                reward = -(((angle + math.pi) % (2 * math.pi) - math.pi) ** 2) - 0.1 * speed**2
                writer.writerow([math.cos(angle), math.sin(angle), speed, torque, reward, run])
                speed = float(np.clip(speed + (15 * math.sin(angle) + 3 * torque) * 0.05, -8, 8))
                angle += speed * 0.05
    return path


@pytest.fixture(scope="session")
def names() -> list[str]:
    """What the log calls its observations."""
    return OBSERVATIONS


@pytest.fixture(scope="session")
def train(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trains with more arguments, and gives the run's folder; without its report."""
    place = tmp_path_factory.mktemp("runs")

    def run(name: str, *arguments: str) -> Path:
        given = [f"dataset={table}", *SMALL, "report=false", *arguments, f"run_dir={place / name}"]
        assert main(given) == 0
        return place / name

    return run


@pytest.fixture(scope="session")
def whole(train: Run) -> Path:
    """A finished run of both stages, with its report. Read only."""
    return train("whole", "report=true")
