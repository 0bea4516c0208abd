"""A policy of a plant in a folder, and a service of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.serving.service import Service

SIGNALS = {
    "observations": {
        "names": ["temp", "pressure", "flow"],
        "units": ["°C", "bar", ""],
        "low": [-1.0, -2.0, -3.0],
        "high": [1.0, 2.0, 3.0],
    },
    "actions": {"names": ["valve", "pump"], "units": ["", "1/s"], "low": None, "high": None},
}


def plant(history: int = 1) -> Policy:
    """Of three observations and two actions in [-1, 3] and [0, 10]."""
    width = history * 3 + (history - 1) * 2
    actor = TanhGaussianActor(
        obs_dim=width,
        action_dim=2,
        hidden_sizes=(8,),
        log_std_min=-4.0,
        log_std_max=1.5,
        normaliser=Normaliser.identity(width),
        generator=generator_for(0, "actor"),
    )
    bounds = np.array([-1.0, 0.0]), np.array([3.0, 10.0])
    return Policy(actor, *bounds, {"signals": SIGNALS, "run": "a_run"}, history=history).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that holds the policy alone. Read only."""
    folder = tmp_path_factory.mktemp("served")
    plant().save(folder / "policy")
    return folder


@pytest.fixture
def make(run: Path, tmp_path: Path) -> Callable[..., Service]:
    """Makes a service, with guards: `history` 1 or 3."""

    def made(history: int = 1, **guards: Any) -> Service:
        folder = run
        if history > 1:
            plant(history).save(tmp_path / "policy")
            folder = tmp_path
        return Service(Policy.load(folder).guard(**guards), folder)

    return made


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As everywhere in the tests: `serve` sets it too."""
    assert torch.get_num_threads() == 1
