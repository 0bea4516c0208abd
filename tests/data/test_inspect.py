"""`inspect` prints what the checks find; training is held to the same checks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose
from mopo_pl.data.doctor.checks import CHECKS
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.inputs import open_inputs

Arrays = dict[str, Any]
ROWS = 1500


def arrays() -> Arrays:
    """A walk of two columns, pushed by the action and by chance, in episodes of 50 steps, of which every other one is terminal where obs 0 > 0."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (ROWS, 1))
    steps = 0.1 * actions + 0.1 * rng.standard_normal((ROWS, 2))
    starts = np.arange(ROWS) % 50 == 0
    states = np.zeros((ROWS + 1, 2))
    following = np.zeros((ROWS, 2))
    for row in range(ROWS):
        states[row] = rng.uniform(-3, -2, 2) if starts[row] else states[row]
        following[row] = states[row + 1] = states[row] + steps[row]
    ends = np.arange(1, ROWS + 1) % 50 == 0
    return {
        "observations": states[:-1],
        "actions": actions,
        "next_observations": following,
        "rewards": following[:, 0] + rng.standard_normal(ROWS),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": ends,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.npz"


def inspected(path: Path, log: Arrays, *settings: str) -> int:
    np.savez(path, **log)
    return main(["inspect", str(path), *settings])


def refused(path: Path, log: Arrays, *settings: str) -> list[str]:
    np.savez(path, **log)
    with pytest.raises(InputError) as error:
        open_inputs(compose([f"dataset={path}", *settings]))
    return error.value.problems


RULE_FILE = """
def positive(s, a, s_next):
    return s_next[:, 0] > -2.5
def quiet(s, a, s_next):
    return s_next[:, 0] > 100
def fails(s, a, s_next):
    raise OSError("no such luck")
def moved(s, a, s_next):
    return s_next[:, 0] - s[:, 0] + a[:, 0] ** 2
def moved_in_place(s, a, s_next):
    return s_next.sub_(s)[:, 0]
def moved_where_positive(s, a, s_next):
    return moved(s, a, s_next).sqrt()
def one_number(s, a, s_next):
    return moved(s, a, s_next).sum()
def whole_numbers(s, a, s_next):
    return moved(s, a, s_next).long()
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with termination rules."""
    (tmp_path / "rules_of_a_test.py").write_text(RULE_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "rules_of_a_test"


def test_a_clean_log_is_ok(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(path, arrays(), "termination=never") == 0
    output = capsys.readouterr().out
    assert f"OK    {len(CHECKS) + 1} checks: unused-arrays, " in output
    assert "rows      1500, of which 0 without a true next state" in output
    assert "WARN" not in output


def test_a_rule_that_is_not_given_is_a_warning_to_inspect_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(path, arrays()) == 0
    assert "WARN  termination-rule: no termination rule: termination is not set" in capsys.readouterr().out
    assert "no termination rule" in refused(path, arrays())[0]


def test_a_warning_ends_with_exit_code_0(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(path, {**arrays(), "rewards": np.zeros(ROWS)}, "termination=never", "algorithm=bc") == 0
    assert "WARN  rewards-constant: every reward is 0: nothing can be learned from them" in capsys.readouterr().out


def test_rewards_that_are_all_zero_stop_what_learns_from_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(path, {**arrays(), "rewards": np.zeros(ROWS)}, "termination=never") == 3
    assert "STOP  rewards-constant: every reward is 0: nothing can be learned from them" in capsys.readouterr().out


def test_a_stop_ends_with_exit_code_3_and_its_fix(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = arrays()
    log["after"] = log.pop("next_observations")
    assert inspected(path, log, "termination=never") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("STOP  unused-arrays: after has the shape of the observations [1500, 2]")
    assert lines[-1].startswith("      fix: set data.columns.next_observation=after")


def test_actions_beyond_their_bounds_do_not_hide_the_rest(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = arrays()
    assert inspected(path, {**log, "actions": 3 * log["actions"]}, "termination=never") == 3
    output = capsys.readouterr().out
    assert "episodes  30; length min 50" in output
    assert "STOP  actions-beyond-bounds" in output


def test_values_that_are_no_numbers_stop(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = arrays()
    log["rewards"][7] = np.nan
    assert inspected(path, log, "termination=never") == 3
    assert "STOP  arrays: " in capsys.readouterr().out


def test_json_holds_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspected(path, {**arrays(), "rewards": np.zeros(ROWS)}, "termination=never", "algorithm=bc", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["level"], told["log"]["rows"], told["log"]["observations"]) == ("WARN", 1500, ["obs 0", "obs 1"])
    warnings = [finding for finding in told["findings"] if finding["level"] == "WARN"]
    assert [finding["name"] for finding in warnings] == ["rewards-constant"]
    assert len(told["findings"]) == len(CHECKS)


def test_training_is_refused_with_every_stop(path: Path) -> None:
    log = arrays()
    log["after"] = log.pop("next_observations")
    log["terminals"] = log["timeouts"]
    problems = refused(path, log, "termination=never")
    assert [word for problem in problems for word in ("after", "both set", "termination=never") if word in problem] == [
        "after",
        "both set",
        "termination=never",
    ]


def test_what_is_wrong_with_the_file_and_the_rule_is_told_at_once(path: Path) -> None:
    log = arrays()
    del log["rewards"]
    reward, rule = refused(path, log, "termination=nowhere:rule")
    assert "no rewards" in reward
    assert "nowhere" in rule


def test_a_rule_that_fails_is_told_beside_the_log(path: Path, rules: str) -> None:
    log = arrays()
    (fault,) = refused(path, log, f"termination={rules}:fails")
    assert "fails when it is called: OSError: no such luck" in fault


# The rule against the log


def told(path: Path, log: Arrays, *settings: str) -> list[tuple[str, str]]:
    from mopo_pl.run.preparation.inputs import examine_inputs

    np.savez(path, **log)
    findings = examine_inputs(compose([f"dataset={path}", *settings])).findings
    return [(finding.level, finding.text) for finding in findings if finding.name == "termination-rule"]


def test_a_rule_that_the_log_bears_out_is_ok(path: Path, rules: str) -> None:
    assert told(path, arrays(), f"termination={rules}:quiet") == [("OK", "")]


def test_a_rule_that_ends_where_the_log_goes_on_stops(path: Path, rules: str) -> None:
    log = arrays()
    ends = (log["next_observations"][:, 0] > -2.5) & ~log["timeouts"]
    ((level, text),) = told(path, log, f"termination={rules}:positive")
    assert level == "STOP"
    assert f"ends the episode in {int(ends.sum())} of 1500 rows where the log goes on" in text


def test_a_rule_that_goes_on_where_the_log_is_terminal_stops(path: Path) -> None:
    log = arrays()
    log["terminals"], log["timeouts"] = log["timeouts"], log["terminals"]
    ((level, text),) = told(path, log, "termination=never")
    assert (level, text) == (
        "STOP",
        "termination=never goes on in 30 of 30 rows that the log calls terminal (row 49, 99, 149, …)",
    )


def test_never_is_compared_with_terminals_though_no_next_state_is_known(path: Path) -> None:
    log = arrays()
    log["terminals"], log["timeouts"] = log["timeouts"], log["terminals"]
    del log["next_observations"]
    assert [level for level, _ in told(path, log, "termination=never")] == ["STOP"]


def test_a_few_contradictions_are_named(path: Path) -> None:
    log = arrays()
    log["terminals"][[99, 499]] = True
    log["timeouts"][[99, 499]] = False
    assert told(path, log, "termination=never") == [
        ("WARN", "termination=never goes on in 2 of 2 rows that the log calls terminal (row 99, 499)")
    ]


def test_the_environments_own_rule_is_compared(path: Path) -> None:
    log = arrays()
    wide = np.zeros((ROWS, 11))
    log = {**log, "observations": wide, "next_observations": wide, "actions": np.zeros((ROWS, 3))}
    texts = [text for _, text in told(path, log, "env_id=Hopper-v5")]
    assert texts == [
        "termination=Hopper-v5 ends the episode in 1470 of 1500 rows where the log goes on (row 0, 1, 2, …)"
    ]


def test_limits_of_columns_are_compared_with_the_log(path: Path) -> None:
    """Two of three entries contradict it, and a log without names numbers its columns."""
    log = arrays()
    beyond = (log["next_observations"] > 3).any(1) | (log["next_observations"][:, 1] < -4)
    assert 5 < beyond.sum() < 300
    log["terminals"], log["timeouts"] = beyond & ~log["timeouts"], log["timeouts"] & ~beyond
    limits = ["termination.bounds.0=[null,3]", "termination.bounds.1=[-4,3]"]
    assert [level for level, _ in told(path, log, *limits)] == ["OK"]
    ((level, text),) = told(path, log, "termination={bounds: {'*': [-1.5, null]}}")
    assert (level, text.partition(" in ")[0]) == (
        "STOP",
        "termination={bounds: {*: [-1.5, null]}} ends the episode",
    )


def test_limits_take_the_names_of_the_log_into_the_run(path: Path) -> None:
    log = arrays()
    log["temp"], log["load"] = log.pop("observations").T
    del log["next_observations"]
    np.savez(path, **log)
    settings = ["data.columns.observation=[temp,load]", "termination.bounds.load=[-50,50]"]
    rule = open_inputs(compose([f"dataset={path}", *settings])).rule
    assert rule is not None
    s = torch.zeros(3, 2)
    assert rule(s, s, torch.tensor([[99.0, 0.0], [0.0, 51.0], [0.0, -51.0]])).tolist() == [False, True, True]
    with pytest.raises(InputError, match=r"bounds.temq: .* did you mean temp\?$"):
        open_inputs(compose([f"dataset={path}", settings[0], "termination.bounds.temq=[0,1]"]))


def test_a_column_that_the_log_does_not_have_is_an_error(path: Path) -> None:
    (problem,) = refused(path, arrays(), "termination.bounds.2=[0,1]")
    assert problem == "termination.bounds.2: there is no such observation column (there are: 0, 1)"


# A known reward against the log


def rewarded() -> Arrays:
    """The walk in [-2, 2], rewarded by its step and by the square of its action, which is of up to 2."""
    log = arrays()
    log["actions"] = 2 * log["actions"]
    log["rewards"] = (log["next_observations"] - log["observations"])[:, 0] + log["actions"][:, 0] ** 2
    return log


BOUNDS = ["termination=never", "data.action_low=[-2.0]", "data.action_high=[2.0]"]


def told_of_reward(path: Path, log: Arrays, *settings: str) -> list[tuple[str, str]]:
    from mopo_pl.run.preparation.inputs import examine_inputs

    np.savez(path, **log)
    findings = examine_inputs(compose([f"dataset={path}", *BOUNDS, *settings])).findings
    return [(finding.level, finding.text) for finding in findings if finding.name == "known-reward"]


def test_a_reward_that_the_log_bears_out_is_ok_and_is_handed_on(path: Path, rules: str) -> None:
    """Rounded to float32, of actions in the log's units."""
    assert told_of_reward(path, rewarded(), f"reward={rules}:moved") == [("OK", "")]
    reward = open_inputs(compose([f"dataset={path}", *BOUNDS, f"reward={rules}:moved"])).reward
    assert reward is not None
    s, a = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0]])
    assert reward(s, a, s + 0.5).tolist() == [9.5]


def test_a_log_without_a_known_reward_is_not_told_of_it(path: Path) -> None:
    assert told_of_reward(path, rewarded()) == []


def test_a_reward_that_differs_in_some_rows_warns_with_one_of_them(path: Path, rules: str) -> None:
    log = rewarded()
    log["rewards"][[700, 900, 901]] = [5.0, 25.0, 25.0]
    given = rewarded()["rewards"]
    ((level, text),) = told_of_reward(path, log, f"reward={rules}:moved")
    assert level == "WARN"
    assert text == (
        f"reward={rules}:moved differs from the logged reward in 3 of 1500 rows, by "
        f"{np.median(np.abs(given - log['rewards'])[[700, 900, 901]]):.3g} in the median of these (row 700: it gives "
        f"{given[700]:.6g}, logged is 5)"
    )


def test_a_reward_that_differs_in_most_rows_stops_training(path: Path, rules: str) -> None:
    """The log's actions are half of those that its rewards were made of."""
    log = rewarded()
    log["actions"] = log["actions"] / 2
    (problem,) = refused(path, log, *BOUNDS, f"reward={rules}:moved")
    assert f"reward={rules}:moved differs from the logged reward in 14" in problem
    assert "given actions in the log's units" in problem
    half = rewarded()
    half["rewards"][:750] += 1
    assert [level for level, _ in told_of_reward(path, half, f"reward={rules}:moved")] == ["WARN"]
    half["rewards"][750] += 1
    assert [level for level, _ in told_of_reward(path, half, f"reward={rules}:moved")] == ["STOP"]


def test_a_last_row_without_a_next_state_is_not_compared(path: Path, rules: str) -> None:
    log = rewarded()
    del log["next_observations"]
    assert told_of_reward(path, log, f"reward={rules}:moved") == [("OK", "")]


def test_a_reward_that_is_no_number_stops(path: Path, rules: str) -> None:
    log = rewarded()
    bad = log["rewards"] < 0
    log["rewards"] = np.sqrt(np.abs(log["rewards"]))
    assert told_of_reward(path, log, f"reward={rules}:moved_where_positive") == [
        (
            "STOP",
            f"reward={rules}:moved_where_positive gives NaN or inf in {bad.sum()} of 1500 rows "
            f"(row {', '.join(map(str, np.flatnonzero(bad)[:3]))}, …)",
        )
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fails", "fails when it is called: OSError: no such luck"),
        ("moved_in_place", "changes its arguments in place; let it work on copies"),
        ("one_number", "must give floats [B] for states and actions [B, ...]; it gave a tensor [] of torch.float32"),
        ("whole_numbers", "must give floats [B] for states and actions [B, ...]; it gave a tensor [3] of torch.int64"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_a_reward_is_tried_before_training(path: Path, rules: str, name: str, says: str) -> None:
    (problem,) = refused(path, rewarded(), *BOUNDS, f"reward={rules}:{name}")
    assert problem.startswith(f"reward={rules}:{name}")
    assert says in problem


def test_a_run_says_its_warnings(path: Path) -> None:
    np.savez(path, **{**arrays(), "rewards": np.zeros(ROWS)})
    inputs = open_inputs(compose([f"dataset={path}", "termination=never", "algorithm=bc"]))
    assert [finding.name for finding in inputs.dataset.findings if finding.level == "WARN"] == ["rewards-constant"]
    with pytest.raises(InputError, match="every reward is 0"):
        open_inputs(compose([f"dataset={path}", "termination=never"]))
