"""Runs whose log moved, policies that take their ensemble's log, and scores in an environment named later."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from safetensors.torch import load_file, save_file

from mopo_pl.__main__ import main as program
from mopo_pl.cli import main
from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.errors import InputError

Train = Callable[..., Path]
Same = Callable[[Path, Path, str], bool]
StopAfter = Callable[[int | None], int]
POLICY = "policy/policy.safetensors"


class Walk(gymnasium.Env):
    """Of the log's shapes: rewards each step by `pay`, and calls what is in `alarm`."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    alarm: ClassVar[list[Callable[[], None]]] = []

    def __init__(self, pay: float = 1.0, columns: int = 3) -> None:
        self.pay, self.columns = pay, columns
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (columns,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(self.columns, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        for ring in self.alarm:
            ring()
        return np.zeros(self.columns, np.float32), self.pay, False, False, {}


@pytest.fixture(autouse=True)
def walk(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What each step of the environment calls."""
    spec = EnvSpec("Walk-v0", entry_point=lambda **arguments: Walk(**arguments), max_episode_steps=5)
    monkeypatch.setitem(gymnasium.registry, "Walk-v0", spec)
    monkeypatch.setattr(Walk, "alarm", [])
    return Walk.alarm


# Scores later ---------------------------------------------------------------------------------------------------------


def test_a_run_is_scored_in_an_environment_that_is_named_later(
    train: Train, npz_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", f"dataset={npz_log}", "termination=never", "env_id=Walk-v0", "env_kwargs={pay: 3}")
    capsys.readouterr()

    def said(*settings: str, code: int = 0) -> str:
        assert program(["evaluate", str(run), *settings, "--episodes", "3"]) == code
        streams = capsys.readouterr()
        return streams.err if code else streams.out

    assert "return   15.0 ± 0.0" in said()
    assert "return   20.0 ± 0.0" in said("env_kwargs.pay=4")  # in place of the run's
    assert "return   5.0 ± 0.0" in said("env_id=Walk-v0")  # without the run's
    described = json.loads((run / "policy/policy.json").read_text())
    (run / "policy/policy.json").write_text(json.dumps({**described, "env_id": None, "env_kwargs": {}}))
    assert said(code=2) == (
        f"error: {run} was trained without env_id: there is no environment to evaluate in; name one, python -m mopo_pl "
        f"evaluate {run} env_id=NAME\n"
    )
    assert "return   10.0 ± 0.0" in said("env_id=Walk-v0", "env_kwargs={pay: 2}")
    assert said("env_id=Walk-v0", "env_kwargs.columns=4", code=2) == (
        f"error: env_id=Walk-v0 has observations of shape [4], the policy of {run} has [3]: is it the right environment, and "
        "are env_kwargs missing?\n"
    )
    assert said("seed=1", code=2) == "error: seed: only env_id and env_kwargs may be given to evaluate\n"
    without = {name: value for name, value in described.items() if name not in ("env_id", "env_kwargs", "sha256")}
    (run / "policy/policy.json").write_text(json.dumps(without))
    weights = load_file(run / POLICY)
    save_file({name: tensor.sign() * 3e38 for name, tensor in weights.items()}, run / POLICY)
    assert said("env_id=Walk-v0", code=2) == (
        f"error: the policy of {run} gave actions that are no numbers in 3 of 3 episodes\n"
    )
    save_file({name: tensor * torch.nan for name, tensor in weights.items()}, run / POLICY)
    assert said("env_id=Walk-v0", code=2).startswith(f"error: {run / 'policy'} holds a damaged policy (")


# Signals in an evaluation ---------------------------------------------------------------------------------------------


def test_a_signal_waits_for_an_evaluation_only_so_long() -> None:
    handler = SignalHandler()
    assert handler.overdue(0.0) is None
    with handler.installed():
        signal.raise_signal(signal.SIGUSR1)
        assert handler.overdue(100.0) is None
        time.sleep(0.01)
        assert handler.overdue(0.005) == signal.SIGUSR1


def test_an_evaluation_that_is_left_is_made_again(
    train: Train,
    npz_log: Path,
    walk: list[Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    same_weights: Same,
) -> None:
    """Of the second epoch, then the last one; the log is opened with one step, and an evaluation takes ten."""
    settings = [f"dataset={npz_log}", "termination=never", "env_id=Walk-v0", "checkpoint.every_minutes=0"]
    whole = train("whole", *settings)
    left = [15]

    def alarm() -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.002)

    walk.append(alarm)
    monkeypatch.setattr("mopo_pl.run.stages.SIGNAL_GRACE", 0.001)
    stopped = train("stopped", *settings, code=143)
    left[0] = 1 + 10 + 5
    assert main([f"resume={stopped}"]) == 143
    assert (stopped / POLICY).exists()
    assert not (stopped / "result.json").exists()
    assert main([f"resume={stopped}"]) == 0
    assert same_weights(stopped, whole, POLICY)
    assert (stopped / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


# A log that moved -----------------------------------------------------------------------------------------------------


def test_a_run_whose_log_moved_is_resumed_where_it_is_the_same_log(
    train: Train,
    npz_log: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    same_weights: Same,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [f"dataset={npz_log}", "termination=never"]
    whole = train("whole", *settings)
    stop_after(35)
    stopped = train("stopped", *settings, code=130)
    moved, other = tmp_path / "elsewhere.npz", tmp_path / "other.npz"
    shutil.move(npz_log, moved)
    arrays = dict(np.load(moved))
    np.savez(other, allow_pickle=False, **{**arrays, "rewards": arrays["rewards"] + 1})
    stop_after(None)
    assert main([f"resume={stopped}"]) == 2
    said = capsys.readouterr().err
    assert "there is no such file" in said
    assert "error: if the log has moved, give its new place beside resume=: dataset=NEW_PATH" in said
    assert main([f"resume={stopped}", f"dataset={other}"]) == 2
    assert "error: the log has changed: its hash is " in capsys.readouterr().err
    assert main([f"resume={stopped}", "dataset=pendulum"]) == 2
    assert capsys.readouterr().err == (
        "error: dataset=pendulum: with resume=, dataset= says where the run's log lies now: give the file or folder of the data itself\n"
    )
    stop_after(3)
    assert main([f"resume={stopped}", f"dataset={moved}"]) == 130
    assert f"changed since the run began: data.source is {moved}, was null" in capsys.readouterr().out
    stop_after(None)
    assert main([f"resume={stopped}"]) == 0  # the new place is kept
    assert same_weights(stopped, whole, POLICY)


# The log of an ensemble -----------------------------------------------------------------------------------------------


def test_a_policy_takes_the_log_that_its_ensemble_is_of(
    train: Train, npz_log: Path, tmp_path: Path, same_weights: Same, monkeypatch: pytest.MonkeyPatch, tiny: list[str]
) -> None:
    """With its bounds and its rule; what the command line gives goes before it."""
    reading = ["data.action_low=[-2,-1]", "data.action_high=[2,1]"]
    model = train("model", f"dataset={npz_log}", *reading, "termination=never", "stage=dynamics")
    without = [argument for argument in tiny if not argument.startswith(("dataset=", "data."))]
    given = ["stage=policy", f"dynamics_from={model}"]
    assert main([*without, *given, f"run_dir={tmp_path / 'short'}"]) == 0
    whole = train("long", *given, f"dataset={npz_log}", *reading, "termination=never")
    assert same_weights(tmp_path / "short", whole, POLICY)
    config = compose([*given, "termination.bounds.0=[-1,1]", "data.time_limit=20"])
    assert (config.dataset, config.data.action_low, config.data.time_limit) == (str(npz_log), [-2.0, -1.0], 20)
    assert config.termination == {"bounds": {"0": [-1, 1]}}
    assert compose([*given, "dataset=pendulum"]).data.action_low is None


def test_a_run_that_does_not_say_its_log_needs_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        compose(["stage=policy", f"dynamics_from={tmp_path}"])
    assert error.value.problems == [
        f"{tmp_path} holds no run: there is no config.yaml in it",
        f"dynamics_from={tmp_path} does not say which log it is of: give dataset=",
    ]
    assert compose(["stage=policy", f"dynamics_from={tmp_path}", "dataset=pendulum"]).dataset == "pendulum"


@pytest.mark.parametrize("key", ["termination", "reward", "env_id"])
def test_code_that_another_run_names_is_only_followed_where_the_user_repeats_it(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose([f"{key}=evil:code"])))
    given = ["stage=policy", f"dynamics_from={tmp_path}"]
    with pytest.raises(InputError) as error:
        compose(given)
    assert error.value.problems == [
        f"{tmp_path / 'config.yaml'}: {key}=evil:code names Python code, which a file must not run by itself: read that code, "
        f"then give {key}=evil:code on the command line too, or trust=true"
    ]
    assert getattr(compose([*given, "trust=true"]), key) == "evil:code"
    assert getattr(compose([*given, f"{key}=mine:code"]), key) == "mine:code"
