"""Small policies, exported once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mopo_pl.export.exporting import export_policy
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)
SIGNALS = {
    "observations": {
        "names": ["temp", "pressure", "flow"],
        "units": ["°C", "bar", ""],
        "low": [-1.0, -2.0, -3.0],
        "high": [1.0, 2.0, 3.0],
    },
    "actions": {"names": ["valve", "pump"], "units": ["", "1/s"], "low": [-1.0, 0.5], "high": [3.0, 9.5]},
}


def plant_policy(*, history: int = 1, seed: int = 0, **meta: Any) -> Policy:
    """Of three observations and two actions, with names, units and ranges; ranges of actions are uneven."""
    width = history * 3 + (history - 1) * 2
    actor = TanhGaussianActor(
        obs_dim=width,
        action_dim=2,
        hidden_sizes=(32, 24),
        log_std_min=-4.0,
        log_std_max=1.5,
        normaliser=Normaliser(torch.arange(width) / 10, torch.arange(1.0, width + 1)),
        generator=generator_for(seed, "actor"),
    )
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.mul_(3)  # so that tanh is neither linear nor at its ends
    known = {
        "dataset": {"name": "plant.csv", "hash": "ab" * 32, "rows": 1000},
        "run": "20261128_s0",
        "mopo_pl": "0.1.0",
    }
    policy = Policy(actor, LOW, HIGH, {"signals": SIGNALS, **known, **meta}, history=history)
    return policy.eval().requires_grad_(False)


def logged_states(rows: int = 300) -> np.ndarray:
    """Within the ranges."""
    return np.random.default_rng(1).uniform([-1, -2, -3], [1, 2, 3], (rows, 3)).astype(np.float32)


@dataclass(frozen=True)
class Exported:
    policy: Policy
    folder: Path
    report: dict[str, Any]


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """Makes a policy of a plant."""
    return plant_policy


def exported_to(folder: Path, policy: Policy, **changed: Any) -> Exported:
    how: Any = {"forms": None, "logged": logged_states(), "distribution": False, "licence": "not stated", **changed}
    return Exported(policy, folder, export_policy(policy, folder, **how))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """In all forms, with the distribution. Read only."""
    return exported_to(tmp_path_factory.mktemp("plain"), plant_policy(), distribution=True, licence="MIT")


@pytest.fixture(scope="session")
def delayed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """With a history of three observations, in all forms. Read only."""
    return exported_to(tmp_path_factory.mktemp("delayed"), plant_policy(history=3))


@pytest.fixture(scope="session")
def for_numpy(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Exported]:
    """By history, 1 and 3, for NumPy alone. Read only."""
    make = {history: (tmp_path_factory.mktemp("numpy"), plant_policy(history=history)) for history in (1, 3)}
    return {history: exported_to(*made, forms=("numpy",)) for history, made in make.items()}


@pytest.fixture(params=["plain", "delayed"])
def exported(request: pytest.FixtureRequest) -> Exported:
    """Each of the two."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def states() -> np.ndarray:
    """Observations within the log's range."""
    return logged_states()
