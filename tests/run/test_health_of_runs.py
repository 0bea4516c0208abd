"""What a whole run says of its health: in result.json, in its summary, and by its exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl.cli import main
from mopo_pl.data.findings import Finding
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.result import summary

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]

PROMISING = ("termination=never", "dynamics.normalise_targets=false", "preset=mbpo", "trainer.max_epochs=5")
"""An ensemble that is hardly trained predicts rewards about 0, for a log whose rewards lie about -50."""


@pytest.fixture
def poor_log(tmp_path: Path, linear: Callable[[int], dict[str, np.ndarray]]) -> str:
    arrays = linear(400)
    rewards = -50 + 0.1 * np.random.default_rng(0).standard_normal(400)
    np.savez(tmp_path / "poor.npz", allow_pickle=False, **{**arrays, "rewards": rewards.astype(np.float32)})
    return f"dataset={tmp_path / 'poor.npz'}"


def health(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())["health"]


def test_a_short_run_says_that_it_cannot_be_judged(
    train: Train, npz_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = health(train("run", f"dataset={npz_log}", "termination=never"))
    text = "there are fewer than 3 epochs after update 5000 to judge the training by: it is not judged"
    fix = "train longer, or with a lower health.after"
    assert found == {"level": "WARN", "findings": [{"level": "WARN", "name": "too_short", "text": text, "fix": fix}]}
    assert f"health   WARN: {text}; {fix}\n" in capsys.readouterr().out


def test_a_policy_below_the_log_is_told_in_the_summary(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """A log of the middle of the swing: 400 steps of which are worth more than what 40 updates learn."""
    folder = train("run", "algorithm=sac", "preset=offline-sac", "sac.updates_per_epoch=1")
    result = json.loads((folder / "result.json").read_text())
    assert result["final_return"] + 2 * result["final_return_std"] / 3**0.5 < result["behaviour_return"]
    below = next(entry for entry in result["health"]["findings"] if entry["name"] == "below_log")
    assert (result["health"]["level"], below["level"]) == ("WARN", "WARN")
    assert f"health   WARN: {below['text']}; {below['fix']}\n" in capsys.readouterr().out


def test_a_run_that_goes_wrong_ends_and_says_how_to_go_on(
    poor_log: str, train: Train, rows: Rows, same_weights: Same, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", poor_log, *PROMISING, "health.after=0", "health.stop=true", code=1)
    said = capsys.readouterr()
    assert "error: health.stop=true has ended the run: imagined steps earn " in said.err
    assert "resume= and health.stop=false; the last checkpoint is kept" in said.err
    assert (
        len([line for line in said.out.splitlines() if line.startswith("warning: update 60: imagined steps earn ")])
        == 1
    )
    assert not (folder / "result.json").exists()
    assert not (folder / "policy").exists()
    assert [row["update"] for row in rows(folder) if row["stage"] == "policy"] == [20, 40, 60]

    assert main([f"resume={folder}"]) == 1
    assert said.err.splitlines()[-1] in capsys.readouterr().err.splitlines()

    assert main([f"resume={folder}", "health.stop=false"]) == 0
    said = capsys.readouterr().out
    assert "warning: update 60: imagined" not in said
    assert health(folder)["level"] == "STOP"
    assert "imagined_above_log" in [entry["name"] for entry in health(folder)["findings"] if entry["level"] == "STOP"]
    lines = said.splitlines()
    at = lines.index("health   STOP: do not use this policy")
    assert lines[at + 1].startswith("         STOP: imagined steps earn ")
    # It is the policy of a run that was never stopped, nor judged.
    assert same_weights(folder, train("whole", poor_log, *PROMISING), "policy/policy.safetensors")


def test_a_run_that_trains_no_policy_is_judged_by_its_ensemble(train: Train) -> None:
    assert health(train("run", "stage=dynamics")) == {"level": "OK", "findings": []}


def test_the_ensembles_signs_stand_beside_the_policys(train: Train) -> None:
    """Thirty updates are far too few for an ensemble."""
    slow = ("dynamics.learning_rate=1e-2", "dynamics.max_epochs=6", "trainer.max_epochs=1")
    found = health(train("run", *slow, "preset=mbpo"))["findings"]
    assert "error_still_falls" in [entry["name"] for entry in found]
    assert "too_short" in [entry["name"] for entry in found]


@pytest.mark.parametrize(
    ("findings", "lines"),
    [
        ([], ["health   OK"]),
        ([Finding("OK", "a", "short")], ["health   OK: short"]),
        ([Finding("OK", "a", "short"), Finding("WARN", "b", "x", "y")], ["health   WARN: x; y", "         OK: short"]),
        (
            [Finding("WARN", "b", "x", "y"), Finding("STOP", "c", "bad", "turn")],
            ["health   STOP: do not use this policy", "         STOP: bad; turn", "         WARN: x; y"],
        ),
    ],
)
def test_the_worst_stands_first(tmp_path: Path, findings: list[Finding], lines: list[str]) -> None:
    level = max((finding.level for finding in findings), key=["OK", "WARN", "STOP"].index, default="OK")
    result = {
        "health": {"level": level, "findings": [vars(finding) for finding in findings]},
        **{"seconds": {}, "behaviour_return": 1.0, "final_return": None, "final_returns": [], "updates": 5},
    }
    said = summary(RunFolder(tmp_path), result, again="").splitlines()
    at = said.index("policy   not scored: no env_id was given")
    assert said[at + 1 : at + 1 + len(lines)] == lines
    assert said[at + 1 + len(lines)].startswith("run      ")
