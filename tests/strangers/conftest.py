"""What a stranger could send: a run folder with a policy and an ensemble in it, made without training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mopo_pl.dynamics.model import TransitionModel, save_model, untrained
from mopo_pl.dynamics.terminals.classifier import unfitted
from mopo_pl.dynamics.terminals.rule import LearnedRule, save_rule
from mopo_pl.nn.layers import Normaliser
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor


def write_run(folder: Path) -> Path:
    """A run folder as training leaves it, of 3 observations and 1 action, with untrained networks."""
    folder.mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "config.yaml").write_text("threads: 1\nlogger: {}\n")
    actor = TanhGaussianActor(
        obs_dim=3,
        action_dim=1,
        hidden_sizes=[4],
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(3),
        generator=torch.Generator().manual_seed(0),
    )
    Policy(actor, np.array([-2.0]), np.array([2.0]), {"env_id": "Pendulum-v1", "env_kwargs": {}}).save(
        folder / "policy"
    )
    ensemble = untrained(obs_dim=3, action_dim=1, members=3, hidden_sizes=[4])
    facts = {"seconds": 1.0, "epochs": 2, "dataset": None}
    save_model(TransitionModel(ensemble=ensemble, elites=torch.tensor([2, 0])), folder, facts)
    holdout = {"rows": 4, "terminal": 2, "found": 1, "false": 0, "auc": 0.5, "calibration_error": 0.1}
    rule = LearnedRule(unfitted(obs_dim=3, action_dim=1, hidden_sizes=[4], share=0.25), 0.5)
    save_rule(rule, folder, {"seconds": 1.0, "threshold": 0.6, "holdout": holdout})
    (folder / "metrics.jsonl").write_text(json.dumps({"stage": "dynamics", "update": 5, "dynamics/train_loss": 1.0}))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """One to be changed by the test."""
    return write_run(tmp_path / "mailed")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there as soon as the module `trap_of_a_stranger` is imported, or its function is called."""
    sprung = tmp_path / "sprung"
    text = f"from pathlib import Path\ndef spring(*_, **__): Path({str(sprung)!r}).touch()\nspring()\nTrap = rule = spring\n"
    (tmp_path / "trap_of_a_stranger.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return sprung
