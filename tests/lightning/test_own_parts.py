"""Callbacks, actors, penalties and rules of the user's own, named on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from mopo_pl.cli import main
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy

PARTS = '''
import lightning as L
import torch

from mopo_pl.sac.actor import TanhGaussianActor

told, seen, ruled = [], [], []


class Told(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        told.append((type(pl_module).__name__, trainer.current_epoch))


class Counting(L.Callback):
    count = 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.count += 1
        pl_module.note({"own/count": float(self.count)})

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]


class NeedsMore(L.Callback):
    def __init__(self, path):
        pass


class NoCallback:
    pass


class HalfActor(TanhGaussianActor):
    """Never more than half a full action."""

    def mean_action(self, observations):
        return 0.5 * super().mean_action(observations)


class Linear(torch.nn.Module):
    """Another network altogether, with what an actor must have."""

    def __init__(self, *, obs_dim, action_dim, hidden_sizes, log_std_min, log_std_max, normaliser, generator):
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden_sizes = obs_dim, action_dim, tuple(hidden_sizes)
        self.log_std_min, self.log_std_max, self.normaliser = log_std_min, log_std_max, normaliser
        self.weight = torch.nn.Parameter(0.1 * torch.randn(obs_dim, action_dim, generator=generator))

    def forward(self, observations, noise):
        u = self.normaliser(observations) @ self.weight + 0.1 * noise
        return torch.tanh(u), -(noise.square() / 2).sum(-1)

    def mean_action(self, observations):
        return torch.tanh(self.normaliser(observations) @ self.weight)

    def act(self, observations, noise):
        return self(observations, noise)[0]

    def sample(self, observations, generator):
        return self.act(observations, torch.randn(*observations.shape[:-1], self.action_dim, generator=generator))


class NoActor(torch.nn.Module):
    def __init__(self, **arguments):
        super().__init__()


def far(mean, std, observations, actions):
    seen.append((mean.shape, observations.shape, actions.abs().max().item()))
    return observations.norm(dim=-1) + actions.norm(dim=-1)


def logged(mean, std, *, observations, log):
    z = (observations - log.observation_mean) / log.observation_std
    return z.norm(dim=-1) + 0 * log.action_high.sum()


def unknown(mean, std, weather):
    return std.amax((0, 2))


def plain(mean, std, scale=2.0):
    return scale * std.amax((0, 2))


def rule(observations, actions, next_observations):
    ruled.append(actions.abs().max().item())
    return torch.zeros(len(actions), dtype=torch.bool)
'''


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """The module of the parts, importable as `parts_of_mine`."""
    import importlib
    import sys

    (tmp_path / "parts_of_mine.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("parts_of_mine", None)
    return lambda: importlib.import_module("parts_of_mine")


def run(folder: Path, *arguments: str, code: int = 0) -> Path:
    assert main([*TINY, *arguments, f"run_dir={folder}"]) == code
    return folder


@pytest.fixture
def problem(tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: object) -> Callable[..., str]:
    def refused(*arguments: str) -> str:
        run(tmp_path / "refused", *arguments, code=2)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not (tmp_path / "refused").exists()
        return line.removeprefix("error: ")

    return refused


# Callbacks


def test_callbacks_are_called_in_both_stages(tmp_path: Path, parts: Callable[[], object]) -> None:
    run(tmp_path / "run", "callbacks=[parts_of_mine:Told]")
    told = [("DynamicsModule", 0), ("DynamicsModule", 1), ("SACModule", 0), ("SACModule", 1)]
    assert parts().told == told  # type: ignore[attr-defined]


def test_a_callbacks_values_stand_in_the_rows_and_its_state_in_checkpoints(
    tmp_path: Path, parts: Callable[[], object]
) -> None:
    """A callback notes values before the module writes its row, as those of the project do."""
    folder = run(tmp_path / "run", "callbacks=[parts_of_mine:Counting]", "preset=offline-sac")
    assert main([f"resume={folder}", "trainer.max_epochs=3", "trust=true"]) == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["own/count"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("parts_of_mine:Nobody", "has no attribute 'Nobody'"),
        ("parts_of_mine:NeedsMore", "missing 1 required positional argument: 'path'"),
        ("parts_of_mine:NoCallback", "is a NoCallback, not a Lightning Callback"),
        ("nowhere:Told", "No module named 'nowhere'"),
        ("Told", "module:Class"),
    ],
)
def test_a_callback_that_is_none_is_refused(problem: Callable[..., str], name: str, said: str) -> None:
    line = problem(f"callbacks=[{name}]")
    assert name in line
    assert said in line


# Actors


@pytest.mark.parametrize("actor", ["HalfActor", "Linear"])
def test_an_actor_of_the_users_own_is_trained_exported_and_scored(
    tmp_path: Path, parts: Callable[[], object], actor: str
) -> None:
    folder = run(tmp_path / "run", f"sac.actor=parts_of_mine:{actor}")
    kind = getattr(parts(), actor)
    policy = Policy.load(folder, actor=kind)
    assert type(policy.actor) is kind
    states = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    assert np.abs(policy(states)).max() <= 2
    result = json.loads((folder / "result.json").read_text())
    assert result["final_return"] is not None


def test_loading_it_without_the_class_says_which(tmp_path: Path, parts: Callable[[], object]) -> None:
    folder = run(tmp_path / "run", "sac.actor=parts_of_mine:HalfActor", "preset=offline-sac")
    with pytest.raises(InputError, match=r"parts_of_mine:HalfActor.*Policy\.load\(.*actor=HalfActor\)"):
        Policy.load(folder)


def test_evaluating_it_takes_the_class(
    tmp_path: Path, parts: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    from mopo_pl.__main__ import main as command

    folder = run(tmp_path / "run", "sac.actor=parts_of_mine:HalfActor", "preset=offline-sac")
    assert command(["evaluate", str(folder), "--episodes", "1"]) == 2
    assert "--actor" in capsys.readouterr().err
    assert command(["evaluate", str(folder), "--episodes", "1", "--actor", "parts_of_mine:HalfActor"]) == 0


def test_a_run_with_it_is_resumed(tmp_path: Path, parts: Callable[[], object]) -> None:
    folder = run(tmp_path / "run", "sac.actor=parts_of_mine:Linear", "preset=offline-sac")
    assert main([f"resume={folder}", "trainer.max_epochs=3", "trust=true"]) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("parts_of_mine:NoActor", "must have"),
        ("parts_of_mine:Told", "sac.actor"),
        ("parts_of_mine:told", "is not callable"),
        ("gaussian", "use one of tanh_gaussian, or module:Class"),
    ],
)
def test_an_actor_that_is_none_is_refused(problem: Callable[..., str], name: str, said: str) -> None:
    line = problem(f"sac.actor={name}")
    assert line.startswith(f"sac.actor={name}")
    assert said in line


# Penalties and rules


def test_a_penalty_is_given_states_and_actions(tmp_path: Path, parts: Callable[[], object]) -> None:
    """Actions in the log's units, which for the pendulum reach from -2 to 2."""
    run(tmp_path / "run", "penalty.name=parts_of_mine:far")
    mean, observations, largest = parts().seen[-1]  # type: ignore[attr-defined]
    assert mean[1] == observations[0]
    assert observations[1] == 3
    assert 1 < max(size for _, _, size in parts().seen) <= 2  # type: ignore[attr-defined]
    assert largest <= 2


def test_a_penalty_is_given_the_logs_statistics(tmp_path: Path, parts: Callable[[], object]) -> None:
    folder = run(tmp_path / "run", "penalty.name=parts_of_mine:logged")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(row["rollout/penalty"] > 0 for row in rows if row["stage"] == "policy")


def test_a_parameter_with_a_default_is_the_functions_own(tmp_path: Path, parts: Callable[[], object]) -> None:
    run(tmp_path / "run", "penalty.name=parts_of_mine:plain")


def test_a_penalty_that_asks_for_something_else_is_refused(problem: Callable[..., str]) -> None:
    line = problem("penalty.name=parts_of_mine:unknown")
    assert "weather" in line
    assert "observations, actions, log" in line


def test_a_rule_is_given_actions_in_the_logs_units(tmp_path: Path, parts: Callable[[], object]) -> None:
    run(tmp_path / "run", "termination=parts_of_mine:rule")
    assert 1 < max(parts().ruled) <= 2  # type: ignore[attr-defined]


def test_penalties_and_rules_of_ones_own_are_compiled_with_the_rollouts(
    tmp_path: Path, parts: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced without machine code: asking for s and a breaks no graph."""
    from functools import partial

    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object, options: object = None) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    tiny = [argument for argument in TINY if not argument.startswith("compile")]
    own = ["penalty.name=parts_of_mine:logged", "compile=[rollouts]", f"run_dir={tmp_path / 'run'}"]
    assert main([*tiny, *own]) == 0
    assert len(graphs) == 1
