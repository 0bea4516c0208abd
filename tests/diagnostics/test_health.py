"""Which signs count: those that persist, of rows that know of them, after the warm-up; and how a policy compares with its log."""

import math

import pytest
from histories import FACTS, GOOD, facts, history

from mopo_pl.diagnostics.health.judging import COLUMNS, health_of_policy, judged_columns, signs_in
from mopo_pl.diagnostics.health.signs import POLICY_SIGNS

DROPS: dict[str, float | None] = {"rollout/dropped_share": 0.2}


def names(*arguments: object, after: int = 0) -> list[str]:
    return [finding.name for finding in signs_in(*arguments, after=after)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "told"), [((10, 11, 12), True), ((10, 12), False), ((9, 10, 11), False), ((11, 12), False)]
)
def test_a_sign_must_persist_to_the_end(bad: tuple[int, ...], told: bool) -> None:
    rows = history(12, lambda epoch: DROPS if epoch in bad else {})
    assert names(rows, FACTS) == ["rollouts_dropped"] * told


@pytest.mark.parametrize(("after", "told"), [(9000, True), (9999, True), (10_000, False)])
def test_rows_of_the_warm_up_do_not_count(after: int, told: bool) -> None:
    assert names(history(12, lambda epoch: DROPS), FACTS, after=after) == ["rollouts_dropped"] * told


def test_the_text_gives_the_numbers_of_the_last_row_and_the_fix_a_key() -> None:
    (finding,) = signs_in(history(12, lambda epoch: {"rollout/dropped_share": epoch / 20}), FACTS, after=0)
    assert finding.level == "WARN"
    assert str(finding) == (
        "60% of the rollouts left the range of the log, or are no numbers; a larger penalty.coef or a shorter rollout.horizon"
    )


@pytest.mark.parametrize("missing", [None, "left out"])
def test_rollouts_made_every_second_epoch_are_judged_by_their_own_rows(missing: str | None) -> None:
    """A row between them neither ends a sign's persistence nor adds to it."""

    def every_second(epoch: int) -> dict[str, float | None]:
        return DROPS if epoch % 2 == 0 and epoch > 4 else {name: None for name in GOOD if name.startswith("rollout/")}

    def made(epochs: int) -> list[dict[str, float | None]]:
        rows = history(epochs, every_second)
        return [{name: value for name, value in row.items() if missing is None or value is not None} for row in rows]

    assert names(made(9), FACTS) == []  # epochs 6 and 8
    assert names(made(10), FACTS) == ["rollouts_dropped"]
    assert names(made(11), FACTS) == ["rollouts_dropped"]


def test_rows_of_a_run_without_a_model_are_judged_by_their_values_alone() -> None:
    def without(epoch: int) -> dict[str, float | None]:
        return {**{name: None for name in GOOD if name.startswith("rollout/")}, "policy/q1": 1000.0}

    assert names(history(12, without), FACTS) == ["q_beyond_reach"]


def test_the_penalty_of_the_last_refresh_counts_for_the_epochs_after_it() -> None:
    """(-1 - 2 - 0.145)·100 - 25 = -339.5 where it counts, -139.5 where it does not."""

    def refreshed(epoch: int) -> dict[str, float | None]:
        return {"policy/q2": -330.0, "rollout/penalty": 2.0 if epoch % 4 == 0 else None}

    assert names(history(12, refreshed), FACTS) == []
    assert names(history(12, lambda epoch: {"policy/q2": -345.0, "rollout/penalty": 2.0}), FACTS) == ["q_beyond_reach"]


def test_three_evaluations_must_lie_below_the_log() -> None:
    def evaluated(epoch: int) -> dict[str, float | None]:
        return {"evaluation/return": (50.0 if epoch > 4 else 150.0) if epoch % 2 == 0 else None}

    assert names(history(9, evaluated), FACTS) == []
    assert names(history(10, evaluated), FACTS) == ["below_log"]


# At the end


def test_the_last_episodes_replace_the_evaluations() -> None:
    below = history(12, lambda epoch: {"evaluation/return": 50.0})
    assert [finding.name for finding in health_of_policy(below, FACTS, after=0)] == ["below_log"]
    assert health_of_policy(below, FACTS, after=0, final=(150.0, 10.0, 20)) == []
    (finding,) = health_of_policy(history(12), FACTS, after=0, final=(50.0, 10.0, 20))
    assert (finding.level, finding.name) == ("WARN", "below_log")
    assert finding.text == "the policy returns 50, less than the log's episodes did on average (100): it is of no use"


@pytest.mark.parametrize(("mean", "told"), [(89.9, True), (90.1, False), (100.1, False)])
def test_few_episodes_must_lie_two_standard_errors_below_the_log(mean: float, told: bool) -> None:
    """s/√n = σ/√(n - 1) = 20/√16 = 5, where σ divides by n."""
    assert bool(health_of_policy(history(12), FACTS, after=0, final=(mean, 20.0, 17))) == told


def test_one_episode_has_no_standard_error_and_raises_no_alarm() -> None:
    assert health_of_policy(history(12), FACTS, after=0, final=(-1e6, 0.0, 1)) == []
    (finding,) = health_of_policy(history(12), FACTS, after=0, final=(-1e6, 0.0, 2))
    assert finding.name == "below_log"


@pytest.mark.parametrize("mean", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("episodes", [1, 20])
def test_a_return_that_is_no_number_is_the_first_reason_to_stop(mean: float, episodes: int) -> None:
    found = health_of_policy(history(12, lambda epoch: DROPS), FACTS, after=0, final=(mean, math.nan, episodes))
    assert [(finding.level, finding.name) for finding in found] == [
        ("STOP", "not_finite"),
        ("WARN", "rollouts_dropped"),
    ]
    assert found[0].text == (
        "the policy's mean return over the final episodes is no finite number: its actions or rewards are none"
    )


@pytest.mark.parametrize(("after", "short"), [(9000, False), (10_000, True)])
def test_a_run_that_is_too_short_says_so(after: int, short: bool) -> None:
    found = health_of_policy(history(12), FACTS, after=after)
    assert [(finding.level, finding.name) for finding in found] == [("WARN", "too_short")] * short


def test_a_short_run_can_be_useless_all_the_same() -> None:
    found = health_of_policy(history(2), FACTS, after=5000, final=(0.0, 1.0, 4))
    assert [finding.name for finding in found] == ["below_log", "too_short"]


def test_what_is_kept_of_a_row_is_all_that_is_judged() -> None:
    """With `judged_columns` alone every sign comes to the same text."""
    assert {name for sign in POLICY_SIGNS for name in sign.needs} < set(COLUMNS)
    bad: dict[str, float | None] = {
        "policy/q1": 1000.0,
        "policy/critic_loss": 1.0,
        "rollout/reward": 0.0,
        "rollout/pinned": 1.0,
        "rollout/penalty_last": 9.0,
        "evaluation/return": 0.0,
        "something/else": 5.0,
    }
    rows = history(12, lambda epoch: {**bad, "policy/critic_loss": 3.0**epoch})
    found = signs_in(rows, facts(reward_high=3.0), after=0)
    assert len(found) == 7
    assert signs_in([judged_columns(row) for row in rows], facts(reward_high=3.0), after=0) == found
    assert "something/else" not in judged_columns(rows[0])
