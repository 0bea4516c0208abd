"""What a run came to."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl.environments.episodes import Episodes
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.result import build_result, git_commit, summary

ROOT = Path(__file__).parents[2]
NUMBERS = ["final_return", "final_return_std", "last10_return", "final_score", "last10_score"]

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def result(finished: Path) -> dict[str, Any]:
    """The result of the finished run."""
    return json.loads((finished / "result.json").read_text())


def test_a_result_has_these_keys(result: dict[str, Any]) -> None:
    assert set(result) == {
        *("behaviour_return", *NUMBERS, "final_episodes", "final_returns", "env_id"),
        *("updates", "seconds", "dataset", "versions", "git_commit", "seed", "health"),
    }
    assert set(result["seconds"]) == {"dynamics", "policy"}
    assert set(result["dataset"]) == {"name", "hash"}
    assert {"mopo_pl", "python", "torch", "lightning", "numpy", "gymnasium"} <= set(result["versions"])


def test_a_result_says_what_was_run(result: dict[str, Any]) -> None:
    assert (result["updates"], result["seed"], result["env_id"]) == (60, 0, "Pendulum-v1")
    assert result["final_episodes"] == 3
    assert result["dataset"]["name"] == "pendulum"
    assert result["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(seconds > 0 for seconds in result["seconds"].values())


def test_every_final_episode_is_kept(result: dict[str, Any]) -> None:
    returns = result["final_returns"]
    assert len(returns) == 3
    assert len(set(returns)) == 3
    assert np.mean(returns) == result["final_return"]
    assert np.std(returns) == result["final_return_std"]


def test_an_episode_without_numbers_is_null(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    final = Episodes(np.array([1.5, np.nan]), np.array([5, 3]))
    made = build_result(dataset=make_dataset(), seed=0, updates=1, seconds={}, curve=[], final=final)
    assert made["final_returns"] == [1.5, None]
    assert made["final_return"] is made["final_return_std"] is None
    json.dumps(made, allow_nan=False)
    folder = RunFolder(tmp_path)
    assert "no mean return: 1 of 2 episodes returned no finite number" in summary(folder, made, again="")


def test_last10_is_the_mean_of_the_last_ten_evaluations(finished: Path, result: dict[str, Any], rows: Rows) -> None:
    returns = [row["evaluation/return"] for row in rows(finished) if row["stage"] == "policy"]
    assert len(returns) == 12
    assert result["last10_return"] == pytest.approx(np.mean(returns[2:]), rel=1e-6)


def test_the_last_score_is_not_taken_on_the_episodes_of_the_curve(train: Train, rows: Rows) -> None:
    folder = train("run", "preset=offline-sac", "evaluation.final_episodes=2")
    result = json.loads((folder / "result.json").read_text())
    assert result["final_return"] != pytest.approx(rows(folder)[-1]["evaluation/return"])


@pytest.mark.parametrize("kind", ["final", "last10"])
def test_a_score_is_the_return_between_the_references(result: dict[str, Any], kind: str) -> None:
    expected = 100 * (result[f"{kind}_return"] + 1234) / (1234 - 150)
    assert result[f"{kind}_score"] == pytest.approx(expected)


def test_without_an_environment_the_numbers_are_null(train: Train, npz_log: Path) -> None:
    folder = train("run", f"dataset={npz_log}", "termination=never")
    result = json.loads((folder / "result.json").read_text())
    assert {key: result[key] for key in [*NUMBERS, "env_id"]} == dict.fromkeys([*NUMBERS, "env_id"])
    assert result["final_episodes"] == 0
    assert result["behaviour_return"] == pytest.approx(np.load(npz_log)["rewards"].reshape(8, 50).sum(1).mean())


def test_a_stage_that_did_not_run_has_no_seconds(train: Train) -> None:
    for name, argument, missing in (("a", "stage=dynamics", "policy"), ("b", "preset=offline-sac", "dynamics")):
        result = json.loads((train(name, argument) / "result.json").read_text())
        assert [stage for stage, seconds in result["seconds"].items() if seconds is None] == [missing]


def test_a_return_without_references_has_no_score(make_dataset: Callable[..., Any]) -> None:
    final = Episodes(np.array([1.0, 3.0]), np.array([5, 5]))
    result = build_result(
        dataset=replace(make_dataset(), env_id="Unheard-v0"),
        seed=0,
        updates=1,
        seconds={},
        curve=[[1.0, 2.0]],
        final=final,
    )
    assert (result["final_return"], result["final_return_std"], result["last10_return"]) == (2.0, 1.0, 2.0)
    assert (result["final_score"], result["last10_score"]) == (None, None)


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (ROOT / ".git").exists():
        assert git_commit() is None
        return
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    assert git_commit() == subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
