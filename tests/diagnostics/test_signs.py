"""Each sign is seen on a bad history and not on a good one, and begins at its threshold."""

from typing import Any

import pytest
from histories import FACTS, GOOD, facts, history
from hypothesis import given
from hypothesis import strategies as st

from mopo_pl.diagnostics.health.ensemble_signs import holdout_errors
from mopo_pl.diagnostics.health.judging import health_of_ensemble, signs_in
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.diagnostics.health.signs import POLICY_SIGNS

LEVELS = {sign.name: sign.level for sign in POLICY_SIGNS}


def seen(changed: dict[str, float | None], of: RunFacts = FACTS, epochs: int = 12) -> list[str]:
    """Names of the signs that a run shows whose rows all differ from good ones by `changed`."""
    return [finding.name for finding in signs_in(history(epochs, lambda epoch: changed), of, after=0)]


def test_a_run_that_is_well_shows_nothing() -> None:
    assert seen({}) == []


# The largest soft value: 4·100 + 0 (entropy is negative); room 0.05·5·100 = 25. The smallest: (-1 - 0.4 - 0.05·2.9)·100 = -154.5.
EDGES: list[tuple[str, dict[str, float | None], dict[str, float | None], dict[str, Any]]] = [
    ("q_beyond_reach", {"policy/q1": 424.9, "rollout/reward": 4.0}, {"policy/q1": 425.1, "rollout/reward": 4.0}, {}),
    ("q_beyond_reach", {"policy/q2": -179.4}, {"policy/q2": -179.6}, {}),
    # With an entropy above 0 the largest value grows by αH/(1 - γ) = 0.5·2·100.
    (
        "q_beyond_reach",
        {"policy/q1": 524.9, "policy/alpha": 0.5, "policy/entropy": 2.0},
        {"policy/q1": 525.1, "policy/alpha": 0.5, "policy/entropy": 2.0},
        {"target_entropy": 2.0},
    ),
    # A penalty lowers the smallest value: (-1 - 1.4 - 0.145)·100 - 25 = -279.5.
    (
        "q_beyond_reach",
        {"policy/q2": -279.4, "rollout/penalty": 1.4},
        {"policy/q2": -279.6, "rollout/penalty": 1.4},
        {},
    ),
    # An imagined step earns 2.155; 1.5 standard deviations more: (365.4 + 365.6)/2/100 = 3.655.
    ("q_above_imagined", {"policy/q1": 365.4, "policy/q2": 365.5}, {"policy/q1": 365.6, "policy/q2": 365.6}, {}),
    ("imagined_above_log", {"rollout/reward": 4.0}, {"rollout/reward": 4.001}, {}),
    ("imagined_among_best", {"rollout/reward": 3.5}, {"rollout/reward": 3.51}, {}),
    ("imagined_below_log", {"rollout/reward": 1.75}, {"rollout/reward": 1.74}, {}),
    ("entropy_off_target", {"policy/entropy": -5.25}, {"policy/entropy": -5.26}, {}),
    ("entropy_off_target", {"policy/entropy": -0.75}, {"policy/entropy": -0.74}, {}),
    (
        "alpha_at_limit",
        {"policy/alpha": 0.9, "policy/entropy": -3.1},
        {"policy/alpha": 1.0, "policy/entropy": -3.1},
        {},
    ),
    (
        "alpha_at_limit",
        {"policy/alpha": 1.0, "policy/entropy": -3.0},
        {"policy/alpha": 1.0, "policy/entropy": -3.01},
        {},
    ),
    ("alpha_at_limit", {"policy/alpha": 5.0}, {"policy/alpha": 5.1}, {"alpha_max": None}),
    ("alpha_collapsed", {"policy/alpha": 0.001}, {"policy/alpha": 0.00099}, {}),
    # mean |r̂| is penalty / share = 2.5, more than the log's 2.0.
    (
        "penalty_outweighs",
        {"rollout/penalty": 2.5, "rollout/penalty_share": 1.0},
        {"rollout/penalty": 2.5, "rollout/penalty_share": 1.01},
        {},
    ),
    (
        "penalty_outweighs",
        {"rollout/penalty": 2.0, "rollout/penalty_share": 4.0},
        {"rollout/penalty": 2.01, "rollout/penalty_share": 4.02},
        {},
    ),
    ("penalty_grows_along_rollouts", {"rollout/penalty_last": 1.5}, {"rollout/penalty_last": 1.51}, {}),
    (
        "penalty_grows_along_rollouts",
        {"rollout/penalty_first": 0.0, "rollout/penalty_last": 0.02},
        {"rollout/penalty_first": 0.0, "rollout/penalty_last": 0.021},
        {},
    ),
    ("rollouts_dropped", {"rollout/dropped_share": 0.05}, {"rollout/dropped_share": 0.051}, {}),
    ("states_beyond_log", {"rollout/beyond_log": 0.5}, {"rollout/beyond_log": 0.51}, {}),
    ("log_left", {"rollout/halt_excess": 5.0}, {"rollout/halt_excess": 5.1}, {}),
    # Of 20 steps 0.6 end: 3 %, three times the log's share.
    ("rollouts_ended", {"rollout/terminated": 0.6}, {"rollout/terminated": 0.61}, {}),
    ("rollouts_ended", {"rollout/terminated": 0.2}, {"rollout/terminated": 0.21}, {"terminal_share": 0.0}),
    ("actions_pinned", {"rollout/pinned": 0.8}, {"rollout/pinned": 0.81}, {}),
    ("actions_pinned", {"rollout/pinned": 0.89}, {"rollout/pinned": 0.91}, {"pinned_share": 0.6}),
    ("below_log", {"evaluation/return": 100.0}, {"evaluation/return": 99.9}, {}),
]


@pytest.mark.parametrize(
    ("name", "good", "bad", "changed"), EDGES, ids=[f"{i}-{edge[0]}" for i, edge in enumerate(EDGES)]
)
def test_a_sign_begins_at_its_threshold(
    name: str, good: dict[str, float | None], bad: dict[str, float | None], changed: dict[str, Any]
) -> None:
    of = facts(**changed)
    assert name not in seen(good, of)
    assert name in seen(bad, of)


def test_every_sign_has_an_edge_here_or_a_history_below() -> None:
    assert set(LEVELS) == {edge[0] for edge in EDGES} - {"below_log"} | {"critic_loss_grows"}


def test_what_breaks_a_bound_of_the_log_stops_and_the_rest_warns() -> None:
    assert {name for name, level in LEVELS.items() if level == "STOP"} == {"q_beyond_reach", "imagined_above_log"}


OF_LOGGED_REWARDS = (
    *("q_beyond_reach", "q_above_imagined", "imagined_above_log", "imagined_among_best", "imagined_below_log"),
    *("alpha_at_limit", "alpha_collapsed", "penalty_grows_along_rollouts"),
)


@pytest.mark.parametrize("name", OF_LOGGED_REWARDS)
def test_a_reward_of_ones_own_is_not_compared_with_the_logs(name: str) -> None:
    bad, changed = next(
        (bad, changed) for edge, _, bad, changed in EDGES if edge == name and (name != "alpha_at_limit" or changed)
    )
    assert name in seen(bad, facts(**changed))
    assert name not in seen(bad, facts(**changed, known_reward=True))


def test_alpha_can_be_at_its_limit_whatever_the_reward() -> None:
    bad = next(bad for edge, _, bad, changed in EDGES if edge == "alpha_at_limit" and not changed)
    assert "alpha_at_limit" in seen(bad, facts(known_reward=True))


@pytest.mark.parametrize(("share", "outweighs"), [(0.99, False), (1.01, True)])
def test_a_penalty_is_weighed_against_a_known_reward_of_imagined_steps_alone(share: float, outweighs: bool) -> None:
    """Whatever the log's rewards, of 2 on average: of a known reward they are in another unit."""
    for penalty in (1e-3, 1e3):
        row: dict[str, float | None] = {"rollout/penalty": penalty, "rollout/penalty_share": share}
        assert ("penalty_outweighs" in seen(row, facts(known_reward=True))) == outweighs


def test_the_entropy_adds_nothing_to_values_without_it() -> None:
    high: dict[str, float | None] = {"policy/q1": 500.0, "policy/alpha": 0.5, "policy/entropy": 2.0}
    of = facts(target_entropy=2.0)
    assert "q_beyond_reach" not in seen(high, of)
    assert "q_beyond_reach" in seen(high, facts(target_entropy=2.0, soft_backup=False))


def test_an_entropy_on_its_way_to_the_target_is_no_sign() -> None:
    """From 6 nats off, a tenth less at each epoch; then as far off, and standing still."""

    def falls(epoch: int) -> dict[str, float | None]:
        return {"policy/entropy": -3.0 + 9.0 * 0.95**epoch}

    assert signs_in(history(6, falls), FACTS, after=0) == []
    assert "entropy_off_target" in seen({"policy/entropy": -3.0 + 9.0 * 0.95**6})


def test_an_entropy_far_from_its_target_is_told_on_its_way() -> None:
    """From 20 nats a dimension off, a tenth less at each epoch: 5 nats a dimension are reached at the 14th."""

    def rises(epoch: int) -> dict[str, float | None]:
        return {"policy/entropy": -3.0 - 60.0 * 0.9**epoch}

    told = [bool(signs_in(history(epochs, rises), FACTS, after=0)) for epochs in range(3, 20)]
    assert told == [True] * 11 + [False] * 6


# 12 epochs: the last third is epochs 9 to 12, of which 9 and 10 are compared with 11 and 12.
@pytest.mark.parametrize(
    ("factor", "q_factor", "grows"), [(2.99, 1, False), (3.01, 1, True), (11.9, 2, False), (12.1, 2, True)]
)
def test_a_critic_loss_grows_where_it_outgrows_the_square_of_q(factor: float, q_factor: float, grows: bool) -> None:
    def late(epoch: int) -> dict[str, float | None]:
        # The sign must have been seen in the last three epochs: so it grows by as much at each of them.
        steps = max(0, epoch - 6)
        return {"policy/critic_loss": factor ** (steps / 2), "policy/q1": 50.0 * q_factor ** (steps / 2)}

    found = {finding.name for finding in signs_in(history(12, late), facts(reward_high=1e6), after=0)}
    assert ("critic_loss_grows" in found) == grows


def test_a_falling_q_does_not_excuse_a_critic_loss() -> None:
    def late(epoch: int) -> dict[str, float | None]:
        return {"policy/critic_loss": 2.0**epoch, "policy/q1": 200.0 / epoch, "policy/q2": 200.0 / epoch}

    assert [finding.name for finding in signs_in(history(12, late), FACTS, after=0)] == ["critic_loss_grows"]


def test_eight_epochs_have_no_last_third_to_speak_of() -> None:
    def late(epoch: int) -> dict[str, float | None]:
        return {"policy/critic_loss": 10.0**epoch}

    assert signs_in(history(8, late), FACTS, after=0) == []
    assert signs_in(history(12, late), FACTS, after=0)


@given(scale=st.floats(1e-3, 1e6), name=st.sampled_from([edge[0] for edge in EDGES if edge[0] in LEVELS]))
def test_signs_do_not_depend_on_the_unit_of_the_reward(scale: float, name: str) -> None:
    """Everything in units of the reward times `scale`: what was seen is seen, and nothing else."""
    of = facts(
        **{key: scale * getattr(FACTS, key) for key in ("reward_low", "reward_high", "reward_mean", "reward_std")},
        **{key: scale * getattr(FACTS, key) for key in ("reward_size", "reward_top")},
        alpha_max=scale,
    )
    in_units = ("rollout/penalty", "rollout/penalty_first", "rollout/penalty_last", "rollout/reward", "policy/alpha")
    _, _, bad, changed = next(edge for edge in EDGES if edge[0] == name and not edge[3])
    row = {**GOOD, **bad}
    scaled = {
        key: value * scale if key in (*in_units, "policy/q1", "policy/q2") else value
        for key, value in row.items()
        if value
    }
    assert seen(scaled, of) == seen(bad)
    assert not changed


# The ensemble


def errors(*epochs: list[float], error: str = "mse") -> list[dict[str, float | None]]:
    return [
        {"update": float(n), **{f"dynamics/holdout_{error}_{i}": e for i, e in enumerate(row)}}
        for n, row in enumerate(epochs)
    ]


def names(rows: list[dict[str, float | None]], criterion: str = "mean") -> list[str]:
    return [finding.name for finding in health_of_ensemble(rows, elites=2, criterion=criterion)]


def test_an_ensemble_that_settled_shows_nothing() -> None:
    assert names(errors(*[[1.0, 2.0, 3.0]] * 12)) == []
    assert names([]) == []
    assert names([{"update": 1.0, "policy/q1": 1.0}]) == []


def test_an_error_that_still_falls_is_told_from_a_tenth_on() -> None:
    flat = [[1.0, 1.0]] * 3
    for last, told in ((0.901, []), (0.899, ["error_still_falls"])):
        assert names(errors(*flat, *[[last, last]] * 5)) == told
    # What fell before the last five epochs does not count.
    assert names(errors([2.0, 2.0], *flat, *flat)) == []


def test_elites_that_change_are_told() -> None:
    """Three members, two elites: each epoch another member takes the lead, so that one of two is replaced each second epoch."""

    def epochs(every: int) -> list[list[float]]:
        rows, best = [], [1.0, 1.0, 1.001]
        for epoch in range(12):
            if epoch % every == 0:
                worst = best.index(max(best))
                best = [*best]
                best[worst] = min(best) - 1e-6
            rows.append(best)
        return rows

    assert names(errors(*epochs(1))) == ["elite_churn"]  # a half per epoch
    assert names(errors(*epochs(3))) == []  # 4 of 10 epochs replace one of two: at most a fifth


def test_the_error_that_elites_are_chosen_by_is_judged() -> None:
    falling = [[1.0, 1.0]] * 3 + [[0.5, 0.5]] * 5
    both = [
        {**mean, **geometric}
        for mean, geometric in zip(errors(*falling), errors(*[[1.0, 1.0]] * 8, error="geometric"), strict=True)
    ]
    assert names(both) == ["error_still_falls"]
    assert names(both, "geometric") == []
    assert names(errors(*falling, error="geometric"), "geometric") == ["error_still_falls"]


def test_ten_members_are_counted_by_their_numbers() -> None:
    row = errors([float(member) for member in range(12)])[0]
    assert holdout_errors(dict(reversed(row.items())), "mean") == [float(member) for member in range(12)]
