"""Runs with `termination=learned`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl.cli import main
from mopo_pl.config.compose import compose
from mopo_pl.run.preparation.inputs import examine_inputs
from mopo_pl.storage.atomic_write import sha256_of

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]
StopAfter = Callable[[int | None], int]

RULE, POLICY = "termination.safetensors", "policy/policy.safetensors"
SMALL = [
    "penalty.halt_widths=null",  # an end where the log does would come before the learned one
    "classifier.epochs=3",
    "classifier.updates_per_epoch=10",
    "classifier.hidden_sizes=[16]",
    "env_id=none",
]
EARLIER = 10
"""Batches of the ensemble in the tiny run, on 400 rows."""


def log(path: Path, terminal: int) -> str:
    """400 single steps of three columns; the first of them are terminal, as their first column is above 1."""
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-1, 1, (400, 3)), rng.uniform(-1, 1, (400, 2))
    after = 0.1 * states + np.where(np.arange(400) < terminal, 2.0, 0.0)[:, None]
    ends = np.arange(400) < terminal
    rewards = -(states**2).sum(1)
    arrays = {"obs": states, "action": actions, "reward": rewards, "done": ends, "timeout": ~ends, "next_obs": after}
    np.savez(path, allow_pickle=False, **arrays)
    return f"dataset={path}"


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    return [log(tmp_path / "many.npz", 200), "termination=learned", *SMALL]


def test_a_run_learns_the_rule_and_ends_its_rollouts_by_it(
    train: Train, many: list[str], rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the rows are terminal, so that about half of the imagined steps end."""
    folder = train("run", *many, "classifier.updates_per_epoch=100", "classifier.learning_rate=0.01")
    learned = [row for row in rows(folder) if row["stage"] == "termination"]
    assert [row["update"] for row in learned] == [100, 200, 300]
    assert learned[-1]["termination/holdout_auc"] == 1.0
    assert learned[-1]["termination/train_loss"] < 0.05 < learned[0]["termination/train_loss"]
    told = json.loads((folder / "termination.json").read_text())
    assert told["holdout"] | {"reliability": None} == {
        "rows": 80,
        "terminal": 40,
        "found": 40,
        "false": 0,
        "auc": 1.0,
        "calibration_error": pytest.approx(learned[-1]["termination/calibration_error"]),
        "reliability": None,
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["termination"] == {"threshold": told["threshold"], "holdout": told["holdout"]}
    assert result["seconds"].keys() == {"dynamics", "termination", "policy"}
    out = capsys.readouterr().out
    assert "ends     learned: held-out AUC 1.0000, calibration error 0." in out
    assert f"from a probability of {told['threshold']:.2f} on, 40 of 40 terminal rows and 0 of 40 others" in out
    ended = [row["rollout/terminated"] for row in rows(folder) if row["stage"] == "policy"]
    assert all(share > 0.2 for share in ended)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> tuple[Path, list[str]]:
    """A run that was never stopped, and its arguments. Read only."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = [log(folder / "many.npz", 200), "termination=learned", *SMALL]
    assert main([*tiny, *arguments, f"run_dir={folder / 'run'}"]) == 0
    return folder / "run", arguments


@pytest.mark.parametrize("batch", [15, 20], ids=["in an epoch", "at an epoch's end"])
def test_a_run_stopped_while_it_learns_the_rule_ends_in_the_same_bits(
    train: Train, whole: tuple[Path, list[str]], stop_after: StopAfter, rows: Rows, same_weights: Same, batch: int
) -> None:
    folder, arguments = whole
    stop_after(EARLIER + batch)
    stopped = train("stopped", *arguments, code=130)
    stop_after(None)
    assert not (stopped / RULE).exists()
    assert main([f"resume={stopped}"]) == 0
    assert same_weights(stopped, folder, RULE)
    assert same_weights(stopped, folder, POLICY)
    assert rows(stopped) == rows(folder)


def test_a_policy_takes_the_rule_of_the_run_that_its_ensemble_is_from(
    train: Train, whole: tuple[Path, list[str]], same_weights: Same, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rule as in a run of all stages; the ensemble is the one it would be without a rule."""
    folder, arguments = whole
    policy = train("policy", *arguments, "stage=policy", f"dynamics_from={folder}")
    assert same_weights(policy, folder, POLICY)
    assert not (policy / RULE).exists()
    stored = json.loads((policy / "provenance.json").read_text())["ensemble"]
    assert stored == "+".join(sha256_of(folder / name) or "" for name in ("dynamics.safetensors", RULE))
    without = train("without", *arguments, "termination.bounds.0=[null,1]", "stage=dynamics")
    assert same_weights(without, folder, "dynamics.safetensors")
    assert not (without / RULE).exists()
    capsys.readouterr()
    train("refused", *arguments, "stage=policy", f"dynamics_from={without}", code=2)
    assert capsys.readouterr().err == (
        f"error: {without} holds no learned rule: its run was not trained with termination=learned\n"
    )


def test_another_seed_learns_another_rule(train: Train, whole: tuple[Path, list[str]], same_weights: Same) -> None:
    folder, arguments = whole
    assert not same_weights(train("other", *arguments, "seed=1", "stage=dynamics"), folder, RULE)


def found(data: str, *settings: str) -> list[tuple[str, str]]:
    arguments = compose([data, "termination=learned", "env_id=none", *settings])
    findings = examine_inputs(arguments).findings
    return [(finding.level, str(finding)) for finding in findings if finding.name == "termination-rule"]


@pytest.mark.parametrize(
    ("terminal", "says"),
    [
        (0, "the log has no terminal row to learn from; termination=never fits it"),
        (
            4,
            "the log has 4 terminal rows with a known next state, and at least 5 are needed; add next observations, or "
            "give limits of columns or a function",
        ),
        (397, "3 rows of the log are not terminal, and at least 5 are needed; give limits of columns or a function"),
    ],
)
def test_a_log_that_no_rule_can_be_learned_from_stops(tmp_path: Path, terminal: int, says: str) -> None:
    assert found(log(tmp_path / "log.npz", terminal)) == [("STOP", f"termination=learned: {says}")]
    assert found(log(tmp_path / "log.npz", terminal), "rollout.real_ratio=1") == []


def test_a_log_without_terminal_rows_is_refused_before_training(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", log(tmp_path / "log.npz", 0), "termination=learned", "env_id=none", code=2)
    assert "error: termination=learned: the log has no terminal row to learn from" in capsys.readouterr().err
    assert not folder.exists()


def test_terminal_rows_without_a_next_state_are_counted_apart(npz_log: Path) -> None:
    arrays = dict(np.load(npz_log))
    del arrays["next_observations"]
    arrays["terminals"], arrays["timeouts"] = arrays["timeouts"], arrays["terminals"]
    np.savez(npz_log, allow_pickle=False, **arrays)
    ((level, text),) = found(f"dataset={npz_log}")
    assert level == "STOP"
    assert "the log has 0 terminal rows with a known next state (of 8), and at least 5 are needed" in text


def test_few_terminal_rows_are_a_warning(tmp_path: Path) -> None:
    assert found(log(tmp_path / "log.npz", 49)) == [
        (
            "WARN",
            "termination=learned: the log has 49 terminal rows with a known next state, which is little to learn from; look at "
            "the held-out AUC in termination.json, or give limits of columns or a function",
        )
    ]
    assert found(log(tmp_path / "log.npz", 50)) == [("OK", "")]


def test_a_dry_run_tells_of_it(many: list[str], tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*tiny, *many, "--dry-run"]) == 0
    assert "ends      learned from 200 terminal rows, 30 updates" in capsys.readouterr().out
