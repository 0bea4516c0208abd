"""Each defect of a log is found by name; clean logs raise no finding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.doctor.checks import CHECKS
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset
from mopo_pl.data.readers.pendulum import collect_pendulum
from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import InputError

Arrays = dict[str, Any]
EPISODES, STEPS = 20, 100


def rolled_out(seed: int = 0, *, explore: bool = True) -> Arrays:
    """Episodes of DMSD by a linear controller with noise, as plain arrays."""
    rng, environment = np.random.default_rng(seed), make_environment("mopo_pl/DMSD-v0", {})
    gain = rng.standard_normal((6, 2))
    rows: dict[str, list] = {key: [] for key in ("observations", "actions", "rewards", "next_observations")}
    for episode in range(EPISODES):
        state, _ = environment.reset(seed=seed + episode)
        for _ in range(STEPS):
            noise = rng.standard_normal(2) if explore else 0.0
            action = np.clip(0.1 * state @ gain + 0.5 * noise, -1, 1).astype(np.float32)
            following, reward, *_ = environment.step(action)
            for key, value in zip(rows, (state, action, reward, following), strict=True):
                rows[key].append(value)
            state = following
    arrays = {key: np.array(values, np.float32) for key, values in rows.items()}
    ends = np.arange(1, EPISODES * STEPS + 1) % STEPS == 0
    return {**arrays, "terminals": np.zeros(len(ends), bool), "timeouts": ends}


CLEAN = rolled_out()
ENDS = CLEAN["timeouts"]


@pytest.fixture
def log() -> Arrays:
    return {key: array.copy() for key, array in CLEAN.items()}


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[Finding]]:
    """What the checks say of arrays, OK left out; further keywords are fields of DataConfig."""

    def examined(arrays: Arrays, env_id: str | None = None, **data: Any) -> list[Finding]:
        path = tmp_path / "log.npz"
        np.savez(path, **arrays)
        _, findings = examine(name=str(path), data=DataConfig(**data), env_id=env_id, env_kwargs={})
        return [finding for finding in findings if finding.level != "OK"]

    return examined


Found = Callable[..., list[Finding]]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def no_next(arrays: Arrays) -> Arrays:
    return {key: array for key, array in arrays.items() if key != "next_observations"}


# Clean logs


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_clean_log_has_no_finding(found: Found, seed: int) -> None:
    assert found(rolled_out(seed)) == []


def test_a_clean_log_without_next_states_has_no_finding(found: Found, log: Arrays) -> None:
    assert found(no_next(log)) == []


def test_the_pendulum_has_no_finding() -> None:
    name = collect_pendulum(4000, 0)
    _, findings = examine(name=name, data=DataConfig(), env_id=None, env_kwargs={})
    assert [finding.name for finding in findings if finding.level == "OK"] == list(CHECKS)


def test_a_log_of_independent_transitions_is_not_stopped(found: Found, log: Arrays) -> None:
    order = np.random.default_rng(0).permutation(len(ENDS))
    assert {finding.level for finding in found({key: array[order] for key, array in log.items()})} <= {"WARN"}


# Names


def test_next_states_under_an_unknown_key_stop(found: Found, log: Arrays) -> None:
    log["what_followed"] = log.pop("next_observations")
    finding = only(found(log))
    assert (finding.level, finding.name) == ("STOP", "unused-arrays")
    assert "what_followed has the shape of the observations [2000, 6] and is not used" in finding.text
    assert "data.columns.next_observation=what_followed" in finding.fix


def test_an_array_of_the_observations_shape_is_named_where_next_states_are_known(found: Found, log: Arrays) -> None:
    log["goals"] = log["observations"]
    finding = only(found(log))
    assert (finding.level, finding.name, finding.text) == ("WARN", "unused-arrays", "not used: goals [2000, 6]")


def test_an_array_that_is_said_to_hold_no_next_states_is_only_named(found: Found, log: Arrays) -> None:
    log["goals"] = log.pop("next_observations")
    finding = only(found(log, columns=ColumnsConfig(next_observation="none")))
    assert (finding.level, finding.name) == ("WARN", "unused-arrays")


def test_arrays_of_another_length_are_not_named(found: Found, log: Arrays) -> None:
    assert found({**log, "mean": np.zeros(6), "version": np.array("2"), "seeds": np.arange(EPISODES)}) == []


# Next states


def test_next_states_that_are_the_states_stop(found: Found, log: Arrays) -> None:
    log["next_observations"] = log["observations"]
    finding = only([finding for finding in found(log) if finding.level == "STOP"])
    assert finding.name == "next-states-copied"
    assert "in 1980 of 1980 rows" in finding.text


@pytest.mark.parametrize(("rows", "word"), [(-2, "late"), (1, "early")])
def test_shifted_next_states_stop(found: Found, log: Arrays, rows: int, word: str) -> None:
    log["next_observations"] = np.roll(log["observations"], rows, 0)
    findings = {finding.name: finding for finding in found(log)}
    assert findings["next-states-shifted"].level == "STOP"
    assert f"one row too {word}" in findings["next-states-shifted"].text
    assert "next-states-break" not in findings  # the rows are in order


def test_next_states_of_rows_that_were_left_out_are_counted(found: Found, log: Arrays) -> None:
    keep = np.ones(len(ENDS), bool)
    keep[[10, 250, 251, 777]] = False
    finding = only(found({key: array[keep] for key, array in log.items()}))
    assert (finding.level, finding.name) == ("WARN", "next-states-break")
    assert "in 3 of 1976 rows where no end is marked (row 9, 248, 773)" in finding.text


def test_rounded_next_states_break_nothing(found: Found, log: Arrays) -> None:
    log["next_observations"] = np.round(log["next_observations"], 5)
    assert found(log) == []


def test_next_states_across_episodes_stop(found: Found, log: Arrays) -> None:
    log["next_observations"] = np.roll(log["observations"], -1, 0)
    finding = only(found(log))
    assert (finding.level, finding.name) == ("STOP", "next-states-across-episodes")
    assert "19 of 19 last rows" in finding.text
    assert "row 99, 199, 299" in finding.text


@pytest.mark.parametrize(("what", "filled"), [("zeros", 0 * CLEAN["observations"]), ("own", CLEAN["observations"])])
def test_filled_next_states_at_the_ends_are_named(found: Found, log: Arrays, what: str, filled: np.ndarray) -> None:
    log["next_observations"][ENDS] = filled[ENDS]
    finding = only(found(log))
    assert (finding.level, finding.name) == ("WARN", "next-states-at-ends")
    assert f"20 of 20 last rows is {'the row' if what == 'own' else what}" in finding.text


def test_shuffled_rows_without_next_states_stop(found: Found, log: Arrays) -> None:
    order = np.random.default_rng(0).permutation(len(ENDS))
    findings = found({key: array[order] for key, array in no_next(log).items()})
    assert ("STOP", "rows-shuffled") in [(finding.level, finding.name) for finding in findings]


def test_episodes_joined_without_a_mark_stop(found: Found, log: Arrays) -> None:
    del log["timeouts"]
    findings = {finding.name: finding for finding in found(no_next(log))}
    assert findings["rows-jump"].level == "STOP"
    assert "in 19 rows inside episodes (row 99, 199, 299, …)" in findings["rows-jump"].text
    assert "data.time_limit=100" in findings["rows-jump"].fix
    assert findings["no-ends"].level == "WARN"


def test_a_time_limit_of_the_users_separates_joined_episodes(found: Found, log: Arrays) -> None:
    del log["timeouts"]
    assert found(no_next(log), time_limit=100) == []


def test_a_gap_in_an_episode_is_named(found: Found, log: Arrays) -> None:
    keep = np.ones(len(ENDS), bool)
    keep[1230:1260] = False
    finding = only(found({key: array[keep] for key, array in no_next(log).items()}))
    assert (finding.level, finding.name) == ("WARN", "rows-jump")
    assert "in 1 rows inside episodes (row 1229)" in finding.text


# Ends


def half_marked() -> np.ndarray:
    """Limits of 20 episodes of 100 steps of which 5 are not marked, so that some pieces last 200 steps."""
    marks = ENDS.copy()
    marks[[199, 499, 999, 1299, 1699]] = False
    return marks


def test_half_marked_limits_are_found_by_lengths(found: Found, log: Arrays) -> None:
    names = {finding.name: finding for finding in found({**no_next(log), "timeouts": half_marked()})}
    assert "5 of 14 episodes last a multiple of 100 steps, up to 200" in names["episodes-merged"].text
    assert names["rows-jump"].level == "STOP"


def test_half_marked_limits_end_where_the_next_state_is_not_the_next_row(found: Found, log: Arrays) -> None:
    finding = only(found({**log, "timeouts": half_marked()}))
    assert finding.name == "next-states-break"
    assert "in 5 of 1985 rows where no end is marked (row 199, 499, 999, …)" in finding.text


def test_a_time_limit_repairs_half_marked_limits(found: Found, log: Arrays) -> None:
    finding = only(found({**no_next(log), "timeouts": half_marked()}, time_limit=100))
    assert finding.text == "data.time_limit ends 5 episodes where timeouts marks no end"


def test_both_flags_on_every_limit_stop(found: Found, log: Arrays) -> None:
    findings = {finding.name: finding for finding in found({**log, "terminals": ENDS})}
    assert findings["both-flags"].level == "STOP"
    assert "both set in 20 rows (row 99, 199, 299, …), of 20 with timeouts" in findings["both-flags"].text
    assert findings["terminal-time-limits"].text.startswith("all 20 terminal episodes last 100 steps")


def test_both_flags_on_one_row_are_named(found: Found, log: Arrays) -> None:
    log["terminals"][299] = True
    finding = only(found(log))
    assert (finding.level, finding.name) == ("WARN", "both-flags")


def test_terminal_episodes_that_pile_up_at_one_length_are_named(found: Found, log: Arrays) -> None:
    # done = terminated or truncated: some episodes fail early, the others end at 100 steps.
    failed = np.isin(np.arange(len(ENDS)), [30, 140, 260, 390])
    finding = only(found({**log, "timeouts": 0 * ENDS, "terminals": ENDS | failed}))
    assert finding.name == "terminal-time-limits"
    assert "16 of 24 terminal episodes last 100 steps, and none is longer" in finding.text


def test_terminal_episodes_of_several_lengths_are_not_named(found: Found, log: Arrays) -> None:
    failed = np.isin(np.arange(len(ENDS)), [30, 140, 260, 390, 455, 555, 699, 720])
    assert found({**log, "terminals": failed & ~ENDS}) == []


# Columns


def test_a_constant_column_is_named(found: Found, log: Arrays) -> None:
    log["observations"][:, 1] = log["next_observations"][:, 1] = 7.0
    assert only(found(log)).text == "observation columns never change: obs 1"


def test_columns_of_far_scales_are_named(found: Found, log: Arrays) -> None:
    for key in ("observations", "next_observations"):
        log[key][:, 2] *= 1e5
    finding = only(found(log))
    assert finding.name == "columns-scales"
    assert "the standard deviation of obs 2" in finding.text
    assert "sac.normalise_observations=true" in finding.fix


def test_a_stuck_sensor_is_named(found: Found, log: Arrays) -> None:
    log["observations"][540:590, 3] = log["observations"][540, 3]
    log["next_observations"][539:589, 3] = log["observations"][540, 3]
    finding = only(found(log))
    assert finding.name == "columns-stuck"
    assert "obs 3 repeats one value for 49 steps, once, from row 540 on" in finding.text


@pytest.mark.parametrize("clock", [np.arange(len(ENDS)) % STEPS, 0.05 * np.arange(len(ENDS)) + 3], ids=["step", "time"])
def test_a_clock_among_the_observations_is_named(found: Found, log: Arrays, clock: np.ndarray) -> None:
    step = clock[1] - clock[0]
    log["observations"] = np.column_stack([log["observations"], clock])
    log["next_observations"] = np.column_stack([log["next_observations"], clock + step])
    finding = only(found(log))
    assert (finding.name, finding.text) == ("columns-count", "observation columns count time or rows: obs 6")


def test_steps_that_float32_rounds_away_are_named(found: Found, log: Arrays) -> None:
    for key in ("observations", "next_observations"):
        log[key] = log[key].astype(np.float64)
        log[key][:, 0] += 1e7
    finding = only(found(log))
    assert finding.name == "columns-rounded"
    assert finding.text.endswith("observation columns obs 0")


@pytest.mark.parametrize(
    ("rewards", "text"),
    [
        (np.arange(len(ENDS)) % 500 == 7, "only 4 of 2000 rewards are not 0"),
        (np.where(np.arange(len(ENDS)) == 9, 1e6, 1.0), "rewards reach 1e+06 (row 9)"),
    ],
)
def test_rewards_that_teach_little_are_named(found: Found, log: Arrays, rewards: np.ndarray, text: str) -> None:
    finding = only(found({**log, "rewards": rewards.astype(np.float32)}))
    assert finding.name == "rewards"
    assert finding.text.startswith(text)


def test_rewards_of_one_value_are_named_unless_ends_tell_them_apart(found: Found, log: Arrays) -> None:
    log["rewards"][:] = 1.0
    finding = only(found(log))
    assert (finding.level, finding.name) == ("WARN", "rewards-constant")
    assert "data.columns.reward=NAME" in finding.fix
    fallen = {
        **log,
        "terminals": np.arange(len(ENDS)) % 500 == 499,
        "timeouts": ENDS & (np.arange(len(ENDS)) % 500 != 499),
    }
    assert "rewards-constant" not in {finding.name for finding in found(fallen)}
    log["rewards"][:] = 0.0
    assert "rewards-constant" in {finding.name for finding in found({**fallen, "rewards": log["rewards"]})}


# Actions


def test_actions_far_beyond_bounds_stop_without_an_offer_to_clip_them(found: Found, log: Arrays) -> None:
    finding = only(found({**log, "actions": 100 * log["actions"]}))
    assert (finding.level, finding.name) == ("STOP", "actions-beyond-bounds")
    low, high = (
        [f"{value:.6g}" for value in side] for side in ((100 * log["actions"]).min(0), (100 * log["actions"]).max(0))
    )
    count = int((np.abs(100 * log["actions"]) > 1 + 1e-4).any(1).sum())
    first = int((np.abs(100 * log["actions"]) > 1 + 1e-4).any(1).argmax())
    assert finding.text.endswith(
        f": {count} of 2000 rows lie outside the bounds of the actions, the first is row {first}: action 0 reaches from {low[0]} to {high[0]}, "
        f"its bounds are -1 to 1; action 1 reaches from {low[1]} to {high[1]}, its bounds are -1 to 1"
    )
    assert finding.fix == (
        f"set 'data.action_low=[{', '.join(low)}]' 'data.action_high=[{', '.join(high)}]', or what full actions are"
    )


def test_a_small_overshoot_may_be_clipped(found: Found, log: Arrays) -> None:
    log["actions"][40] = 1.01
    finding = only(found(log))
    assert finding.level == "STOP"
    assert finding.fix.endswith("; data.clip_actions=true cuts them off")
    clipped = only(found(log, clip_actions=True))
    assert (clipped.level, "1 of 2000 rows are clipped" in clipped.text) == ("WARN", True)


def test_most_actions_are_not_clipped(found: Found, log: Arrays) -> None:
    findings = {finding.name: finding for finding in found({**log, "actions": 100 * log["actions"]}, clip_actions=True)}
    assert findings["actions-beyond-bounds"].level == "STOP"


def test_actions_at_their_bounds_are_named(found: Found, log: Arrays) -> None:
    log["actions"][:, 1] = np.sign(log["actions"][:, 1])
    assert only(found(log)).name == "actions-saturated"


def test_actions_that_use_little_of_their_bounds_are_named(found: Found, log: Arrays) -> None:
    finding = only(found(log, action_low=[-1.0, -50.0], action_high=[1.0, 50.0]))
    assert finding.name == "actions-narrow"
    assert "less than 5 % of their bounds: action 1;" in finding.text


def test_actions_without_exploration_are_named(found: Found) -> None:
    assert only(found(rolled_out(explore=False))).name == "actions-without-exploration"


def test_numbers_of_choices_are_named(found: Found, log: Arrays) -> None:
    log["actions"] = np.random.default_rng(0).integers(0, 4, (len(ENDS), 1)).astype(np.float32)
    findings = {finding.name: finding for finding in found(log, action_low=[0.0], action_high=[3.0])}
    assert set(findings) == {"actions-whole-numbers", "actions-shifted"}  # these choices had no effect
    assert "from 0 to 3" in findings["actions-whole-numbers"].text


# Rows


def test_copied_episodes_are_counted(found: Found, log: Arrays) -> None:
    finding = only(found({key: np.concatenate([array, array[300:500]]) for key, array in log.items()}))
    assert finding.name == "episodes-copied"
    assert "2 of 22 episodes (200 rows) are copies of earlier ones, the first is episode 20" in finding.text


def test_a_copied_batch_is_counted(found: Found, log: Arrays) -> None:
    batch = np.arange(130, 170)
    rows = np.concatenate([np.arange(len(ENDS)), batch])
    findings = {finding.name: finding for finding in found({key: array[rows] for key, array in log.items()})}
    assert "40 of 2040 rows are copies of earlier ones, the first is row 2000" in findings["rows-copied"].text


# Opening


def test_every_stop_is_told_at_once(tmp_path: Path, log: Arrays) -> None:
    log["what_followed"] = log.pop("next_observations")
    log["terminals"], log["actions"] = ENDS, 2 * log["actions"]
    np.savez(tmp_path / "log.npz", **log)
    with pytest.raises(InputError) as error:
        open_dataset(name=str(tmp_path / "log.npz"), data=DataConfig(), env_id=None, env_kwargs={})
    unused, flags, beyond = error.value.problems
    assert "what_followed" in unused
    assert "both set" in flags
    assert "outside the bounds" in beyond


def test_findings_do_not_depend_on_the_environment(found: Found, log: Arrays) -> None:
    assert "mopo_pl/DMSD-v0" in gymnasium.registry
    assert found(log, env_id="mopo_pl/DMSD-v0") == []


# Rows that do not hold what belongs to them


def named(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize("rows", [1, 2, 3, -1, -2, -3])
@pytest.mark.parametrize("known", [True, False])
def test_actions_of_other_rows_are_found(found: Found, log: Arrays, rows: int, known: bool) -> None:
    log["actions"] = np.roll(log["actions"], rows, 0)
    finding = only(found(log if known else no_next(log)))
    count = "one row" if abs(rows) == 1 else f"{abs(rows)} rows"
    level = "STOP" if rows == 1 else "WARN"
    text = f"{count} too late" if rows > 0 else f"{count} too early, or act {count} later"
    assert (finding.level, finding.name) == (level, "actions-shifted")
    assert f"the actions stand {text}: the change of obs " in finding.text


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("derivative", [0.0, 0.3])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_a_controller_of_a_noisy_plant_is_no_shift(
    found: Found, log: Arrays, delay: int, derivative: float, noise: float
) -> None:
    """Each action says what the state has become, of which noise is the larger part."""
    rng, states, actions = np.random.default_rng(0), np.zeros((len(ENDS) + 1, 6)), np.zeros((len(ENDS), 2))
    for t in range(len(ENDS)):
        seen, before = states[max(t - delay, 0)], states[max(t - delay - 1, 0)]
        actions[t] = np.clip(-0.3 * seen[:2] - derivative * (seen - before)[:2] + noise * rng.standard_normal(2), -1, 1)
        states[t + 1] = 0.9 * states[t] + 0.3 * rng.standard_normal(6)
        states[t + 1, :2] += 0.2 * actions[t]
    log |= {"observations": states[:-1], "next_observations": states[1:], "actions": actions}
    said = named(found(log)).get("actions-shifted")
    assert said is None or said.text.startswith("the actions say nothing")  # which they do where noise drowns them


def test_actions_in_another_order_are_named(found: Found, log: Arrays) -> None:
    log["actions"] = log["actions"][np.random.default_rng(0).permutation(len(ENDS))]
    finding = only(found(log))
    assert (finding.level, finding.name) == ("WARN", "actions-shifted")
    assert finding.text.startswith("the actions say nothing about how the state changes")


def earned(log: Arrays) -> np.ndarray:
    """A reward of state, action and next state, as of an energy and of a progress."""
    states, actions, following = (
        log[key].astype(np.float64) for key in ("observations", "actions", "next_observations")
    )
    return following[:, 3] - 0.3 * states[:, 0] ** 2 - (actions**2).sum(1)


REWARDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "of the row before": (lambda r: np.roll(r, 1), "the rewards seem to stand one row too late"),
    "of three rows before": (lambda r: np.roll(r, 3), "the rewards seem to stand 3 rows too late"),
    "of two rows after": (lambda r: np.roll(r, -2), "the rewards seem to stand 2 rows too early"),
    "summed up": (
        lambda r: np.cumsum(r.reshape(EPISODES, STEPS), 1).ravel(),
        "the change of the reward from row to row",
    ),
    "of the episode": (
        lambda r: np.repeat(r.reshape(EPISODES, STEPS).sum(1), STEPS),
        "each episode has one reward in all",
    ),
    "in another order": (
        lambda r: np.random.default_rng(0).permutation(r),
        "states and actions say nothing about the rewards",
    ),
}


@pytest.mark.parametrize("case", REWARDS)
def test_rewards_of_other_rows_are_named(found: Found, log: Arrays, case: str) -> None:
    log["rewards"] = earned(log)
    assert found(log) == []
    change, text = REWARDS[case]
    finding = named(found({**log, "rewards": change(log["rewards"])}))["rewards-shifted"]
    assert finding.level == "WARN"
    assert finding.text.startswith(text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s, n: np.where(np.arange(6) == 2, n - s, n), "obs 2 holds the change"),
        (lambda s, n: n[:, [1, 0, 2, 3, 4, 5]], "obs 0 holds obs 1, obs 1 holds obs 0"),
        (lambda s, n: n * np.where(np.arange(6) == 4, 57.3, 1), "obs 4 is in other units"),
        (lambda s, n: (n - n.mean(0)) / n.std(0), "obs 0 is in other units"),
        (lambda s, n: np.roll(s, -3, 0), "it is the state 3 rows later"),
    ],
)
def test_columns_of_next_states_that_are_wrong_stop_by_name(
    found: Found, log: Arrays, change: Callable[[np.ndarray, np.ndarray], np.ndarray], text: str
) -> None:
    log["next_observations"] = change(log["observations"], log["next_observations"])
    finding = named(found(log))["next-states-break"]
    assert finding.level == "STOP"
    assert f"though the rows are in order: {text}" in finding.text


def test_the_steps_in_which_vector_environments_reset_stop(found: Found, log: Arrays) -> None:
    """After each end Gymnasium makes one more step, whatever the action, from the last state to the first of the next episode."""
    log["observations"].reshape(EPISODES, STEPS, 6)[1:, 0] = 5.0  # where episodes begin is far from where they end
    parts: dict[str, list] = {key: [] for key in log}
    for start in range(0, len(ENDS), STEPS):
        for key, array in log.items():
            parts[key] += list(array[start : start + STEPS])
        if start + STEPS < len(ENDS):
            extra = {
                "observations": log["next_observations"][start + STEPS - 1],
                "next_observations": log["observations"][start + STEPS],
                "actions": np.zeros(2),
                "rewards": 0.0,
                "terminals": False,
                "timeouts": False,
            }
            for key, value in extra.items():
                parts[key].append(value)
    finding = named(found({key: np.array(values) for key, values in parts.items()}))["next-states-across-episodes"]
    assert finding.level == "STOP"
    assert "after 19 of 19 ends stands a row with reward 0" in finding.text


# Values and marks that mean something else


@pytest.mark.parametrize(
    ("key", "value", "rows", "level"),
    [
        ("observations", -99.0, 40, "WARN"),
        ("rewards", 9999.0, 1, "WARN"),
        ("observations", 1e6, 1, "STOP"),
        ("observations", -9999.0, 40, "STOP"),
    ],
)
def test_codes_for_missing_values_and_spikes_are_named(
    found: Found, log: Arrays, key: str, value: float, rows: int, level: str
) -> None:
    """Z-scored with 1e6, all other values of a column are the same."""
    array = log[key] if key == "rewards" else log[key][:, 2]
    array[np.linspace(10, 1900, rows).astype(int)] = value
    finding = named(found(log))["values-isolated"]
    assert finding.level == level
    assert f" is {value:g} in {rows} row" in finding.text


def of_episodes(which: range) -> np.ndarray:
    """Rows of some episodes [N] bool."""
    return np.isin(np.arange(len(ENDS)) // STEPS, which)


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        (lambda x: 70 + x, lambda x: 1.8 * x + 32),
        (lambda x: 350 + x, lambda x: x - 273.15),
        (lambda x: 0.5 + 0.05 * x, lambda x: 100 * x),
        (lambda x: 50 + 5 * x, lambda x: x / 100),
    ],
)
@pytest.mark.parametrize("which", [range(7, 11), range(12, 20)])
def test_episodes_in_other_units_are_named(
    found: Found,
    log: Arrays,
    which: range,
    usual: Callable[[np.ndarray], np.ndarray],
    other: Callable[[np.ndarray], np.ndarray],
) -> None:
    rows = of_episodes(which)
    for key in ("observations", "next_observations"):
        log[key] = log[key].astype(np.float64)
        log[key][:, 1] = usual(log[key][:, 1])
    assert "columns-units" not in named(found(log))
    for key in ("observations", "next_observations"):
        log[key][rows, 1] = other(log[key][rows, 1])
    finding = named(found(log))["columns-units"]
    assert finding.level == "WARN"
    assert finding.text.startswith("obs 1 lies between ")
    assert f"in {len(which)} of {EPISODES} episodes (number {which[0]}-{which[-1]})" in finding.text


def test_a_robot_that_runs_further_in_some_episodes_has_one_unit(found: Found, log: Arrays) -> None:
    speed = np.where(np.arange(EPISODES) < 10, 0.1, 10.0).repeat(STEPS)
    way = np.tile(np.arange(STEPS), EPISODES) * speed * (1 + 0.1 * np.random.default_rng(0).standard_normal(len(ENDS)))
    log["observations"][:, 5] = way
    assert "columns-units" not in named(found(no_next(log)))


def test_actions_that_vary_more_in_some_episodes_have_one_unit(found: Found, log: Arrays) -> None:
    size = np.where(np.arange(EPISODES) < 10, 0.08, 0.9).repeat(STEPS)[:, None]
    log["actions"] = size * np.random.default_rng(0).uniform(-1, 1, (len(ENDS), 2))
    assert "columns-units" not in named(found(log))


def test_levels_that_fill_while_a_valve_is_held_are_measured(found: Found, log: Arrays) -> None:
    valves = np.random.default_rng(0).uniform(-1, 1, (len(ENDS) // 10, 2)).repeat(10, 0)
    for key, shift in (("observations", 1), ("next_observations", 0)):
        log[key][:, :2] = np.cumsum(valves, 0) - shift * valves
    log["actions"] = valves.astype(np.float32)
    log["observations"][:, 2:] = log["next_observations"][:, 2:] = 0
    assert "columns-interpolated" not in named(found(log))


@pytest.mark.parametrize("key", ["actions", "rewards", "observations"])
def test_multiples_are_named_in_any_field(found: Found, log: Arrays, key: str) -> None:
    """Percent for a fraction in every fifth episode; degrees for radians, one episode with a dead sensor."""
    rows, rng = of_episodes(range(2, 20, 5)), np.random.default_rng(0)
    if key == "observations":
        angle = np.cumsum(rng.uniform(0, 0.02, (EPISODES, STEPS)), 1) + rng.uniform(0.1, 0.2, (EPISODES, 1))
        angle[4] = 0
        log["observations"][:, 2] = angle.ravel() * np.where(rows, 57.3, 1)
        log = no_next(log)
    elif key == "actions":
        log["actions"][:, 1] = rng.uniform(0.1, 0.9, len(ENDS)) * np.where(rows, 100, 1)
    else:
        log["rewards"] = rng.uniform(1, 3, len(ENDS)) * np.where(rows, 100, 1)
    said = named(found(log, action_low=[-1.0, 0.0], action_high=[1.0, 100.0]))["columns-units"]
    assert "in 4 of 20 episodes (number 2, 7, 12, 17)" in said.text


def test_two_set_points_are_no_units(found: Found, log: Arrays) -> None:
    levels = np.random.default_rng(0).normal(np.where(np.arange(EPISODES) < 10, 20.0, 90.0), 0.1)
    log["observations"][:, 5] = levels.repeat(STEPS)
    assert "columns-units" not in named(found(no_next(log)))


def test_values_filled_in_between_stored_ones_are_named(found: Found, log: Arrays) -> None:
    """A historian stores each fifth row, and an export puts straight lines between them."""
    states = log["observations"].reshape(EPISODES, STEPS, 6)[:, ::5]
    at = np.arange(5 * (states.shape[1] - 1) + 1)
    lines = [[np.interp(at, at[::5], values) for values in episode.T] for episode in states]
    rows = np.arange(len(ENDS)).reshape(EPISODES, STEPS)[:, : len(at)].ravel()
    log = {key: array[rows] for key, array in no_next(log).items()}
    log["observations"] = np.array(lines).transpose(0, 2, 1).reshape(-1, 6)
    log["timeouts"] = np.arange(1, len(rows) + 1) % len(at) == 0
    finding = named(found(log))["columns-interpolated"]
    assert finding.level == "WARN"
    assert "obs 0, obs 1, obs 2, obs 3" in finding.text


def test_values_held_between_measurements_are_named(found: Found, log: Arrays) -> None:
    log["observations"] = log["observations"].reshape(-1, 10, 6)[:, :1].repeat(10, 1).reshape(-1, 6)
    finding = named(found(no_next(log)))["columns-interpolated"]
    assert "9 steps each time: the state is measured once in 10 rows" in finding.text


def test_rounded_lines_between_stored_values_are_named(found: Found, log: Arrays) -> None:
    """Two lines with rounding errors; axes that move at a limited speed bend each for itself, and are measured."""
    rng = np.random.default_rng(0)
    at = np.arange(len(ENDS))
    for together in (True, False):
        for column in range(6):
            knots = np.sort(np.random.default_rng(0 if together else column).choice(at, 200, replace=False))
            log["observations"][:, column] = np.round(np.interp(at, knots, 60 + 50 * rng.standard_normal(200)), 2)
        assert ("columns-interpolated" in named(found(no_next(log)))) is together


def test_a_sun_that_sets_and_a_programme_that_holds_are_not_stuck(found: Found, log: Arrays) -> None:
    day = np.sin(np.linspace(0, 20 * np.pi, len(ENDS)))
    log["observations"][:, 3] = np.maximum(day, 0) * 900
    hold = np.clip(np.linspace(20, 140, STEPS), 20, 80) + np.where(np.arange(STEPS) > 75, -np.arange(STEPS) + 75, 0)
    log["observations"][:, 4] = np.tile(hold, EPISODES) + np.where(
        np.tile(hold, EPISODES) == 80, 0, 1e-3 * np.random.default_rng(0).standard_normal(len(ENDS))
    )
    assert "columns-stuck" not in named(found(no_next(log)))


def test_a_set_point_that_steps_leaves_the_rewards_in_their_rows(found: Found, log: Arrays) -> None:
    """The set point and its next value are one but where it changes."""
    rng = np.random.default_rng(0)
    point = rng.uniform(20, 80, len(ENDS) // 50).repeat(50)
    level = np.zeros(len(ENDS))
    for t in range(1, len(ENDS)):
        level[t] = level[t - 1] + 0.1 * (point[t - 1] - level[t - 1]) + 0.3 * log["actions"][t - 1, 0]
    after = np.append(level[1:], level[-1])
    log |= {
        "observations": np.column_stack([level, point]),
        "next_observations": np.column_stack([after, np.append(point[1:], point[-1])]),
        "rewards": -((after - point) ** 2) - 0.01 * (log["actions"] ** 2).sum(1),
    }
    assert "rewards-shifted" not in named(found(log))


def test_a_gear_beside_a_throttle_is_named(found: Found, log: Arrays) -> None:
    log["actions"][:, 1] = np.random.default_rng(0).integers(0, 2, len(ENDS))
    finding = named(found(log))["actions-whole-numbers"]
    assert "action 1 always has a whole number as its value, from 0 to 1" in finding.text


def test_a_flag_and_a_reward_at_the_goal_are_no_codes(found: Found, log: Arrays) -> None:
    log["observations"][:, 5] = np.arange(len(ENDS)) % 50 == 0
    log["rewards"] = np.where(ENDS, 100.0, 0.0)
    assert "values-isolated" not in named(found(log))


def test_actions_of_one_sign_without_bounds_are_named(found: Found, log: Arrays) -> None:
    log["actions"][:, 1] = np.abs(log["actions"][:, 1])
    finding = named(found(log))["actions-one-sided"]
    assert "'data.action_low=[-1, 0]' 'data.action_high=[1, 1]'" in finding.fix
    assert "actions-one-sided" not in named(found(log, action_low=[-2.0, -2.0], action_high=[2.0, 2.0]))


def test_a_clock_that_stands_in_most_rows_stops(found: Found, log: Arrays) -> None:
    """Whole seconds of rows ten times a second: else nine of ten rows would be lost without a word."""
    log = {**no_next(log), "clock": np.arange(len(ENDS)) // 10}
    finding = named(found(log, columns=ColumnsConfig(time="clock")))["episodes-short"]
    assert finding.level == "STOP"
    assert "whose ends clock and timeouts mark, last 1.1 rows on average" in finding.text
    assert "is the clock coarser than the rows" in finding.text


@pytest.mark.parametrize(("factor", "episodes"), [(0.2, 8), (5.0, 8), (0.4, 14), (5.0, 14)])
@pytest.mark.parametrize("jitter", [0.02, 0.15])
def test_two_rates_of_sampling_are_named(
    found: Found, log: Arrays, factor: float, episodes: int, jitter: float
) -> None:
    steps = np.where(np.arange(len(ENDS)) < episodes * STEPS, factor, 1.0)
    steps *= 1 + jitter * np.random.default_rng(0).uniform(-1, 1, len(ENDS))
    log["t"] = np.cumsum(steps)
    said = [finding.text for finding in found(no_next(log)) if finding.name == "reading"]
    assert any("written at another rate" in text for text in said)
    log["t"] = np.cumsum(np.random.default_rng(0).exponential(1.0, len(ENDS)))
    assert not any("rate" in finding.text for finding in found(no_next(log)) if finding.name == "reading")


def test_two_machines_in_alternating_rows_stop(found: Found, log: Arrays) -> None:
    other = rolled_out(7)
    alternating = {key: np.stack([log[key], other[key]], 1).reshape(-1, *log[key].shape[1:]) for key in no_next(log)}
    alternating["clock"] = np.repeat(np.arange(len(ENDS)), 2)
    finding = named(found(alternating, columns=ColumnsConfig(time="clock")))["episodes-short"]
    assert finding.level == "STOP"
    assert "data.columns.episode=COLUMN that tells the machines apart" in finding.fix


def test_rows_newest_first_stop(found: Found, log: Arrays) -> None:
    log = {**no_next(log), "clock": np.arange(len(ENDS))[::-1]}
    with pytest.raises(InputError, match="clock falls from row to row: the rows stand newest first"):
        found(log, columns=ColumnsConfig(time="clock"))


@pytest.mark.parametrize("mapped", [False, True])
def test_a_column_called_t_that_is_no_time_is_not_taken_for_it(found: Found, log: Arrays, mapped: bool) -> None:
    """The temperature of the air. Named as an observation it is that alone."""
    air = 20 + 5 * np.sin(np.arange(len(ENDS)) / 46)
    log = {**no_next(log), "t": air}
    if mapped:
        assert "episodes-short" not in named(found(log, columns=ColumnsConfig(observation=["observations", "t"])))
        return
    air[::2] += 3
    remark = named(found(log))["reading"]
    assert "t is not taken for the time of the rows, since it mostly falls or stands" in remark.text


def test_a_column_called_index_of_zeros_and_ones_marks_nothing(found: Found, log: Arrays) -> None:
    log = {**no_next(log), "index": np.arange(len(ENDS)) % 2}
    findings = named(found(log))
    assert "episodes-short" not in findings
    assert "not used: index [2000]" in findings["unused-arrays"].text


def test_episodes_side_by_side_are_told_from_environments_side_by_side(found: Found, log: Arrays) -> None:
    by_episode = {key: array.reshape(EPISODES, STEPS, *array.shape[1:]) for key, array in no_next(log).items()}
    remark = named(found(by_episode))["reading"].text
    assert remark.startswith("20 episodes of 100 rows each stand one after another")
    remark = named(found({key: array.swapaxes(0, 1) for key, array in by_episode.items()}))["reading"].text
    assert remark.startswith("20 environments stand side by side, 100 rows of each")


@pytest.mark.parametrize("last", [0, 1])
def test_row_numbers_of_ends_are_read(found: Found, log: Arrays, tmp_path: Path, last: int) -> None:
    """After each episode's last row, as zarr buffers have them, or of the last rows themselves."""
    marks = np.arange(STEPS, len(ENDS) + 1, STEPS) - last
    arrays = {key: array for key, array in no_next(log).items() if key != "timeouts"}
    np.savez(tmp_path / "log.npz", **arrays, episode_ends=marks)
    opened = open_dataset(name=str(tmp_path / "log.npz"), data=DataConfig(), env_id=None, env_kwargs={})
    assert opened.episode_ends.tolist() == np.arange(STEPS, len(ENDS) + 1, STEPS).tolist()


def test_a_column_of_two_fields_or_twice_in_one_is_refused(found: Found, log: Arrays) -> None:
    for columns, text in (
        (
            ColumnsConfig(observation=["observations", "actions"]),
            "actions is used by another setting of data.columns, and no other actions are there",
        ),
        (
            ColumnsConfig(observation=["rew*"], reward="rewards"),
            "rewards is used by data.columns.observation and data.columns.reward",
        ),
        (
            ColumnsConfig(observation=["observations", "actions"], action=["actions"]),
            "actions is used by data.columns.observation and data.columns.action",
        ),
        (ColumnsConfig(observation=["observations", "obs*"]), "data.columns.observation names observations twice"),
    ):
        with pytest.raises(InputError, match=text):
            found(log, columns=columns)


def test_the_time_and_what_is_paid_for_may_be_a_part_of_the_state(found: Found, log: Arrays) -> None:
    """Where the user names the column in both fields, and not by a pattern."""
    log = {**no_next(log), "clock": np.tile(np.arange(STEPS), EPISODES)}
    columns = ColumnsConfig(observation=["observations", "clock", "rewards"], time="clock", reward="rewards")
    assert "columns-count" in named(found(log, columns=columns))


# Terminal flags


def fallen(seed: int = 0) -> Arrays:
    """DMSD's rows in episodes of many lengths, each of which ends in a terminal row."""
    arrays, rng = rolled_out(seed), np.random.default_rng(seed)
    kept = np.concatenate([np.arange(STEPS * e, STEPS * e + rng.integers(40, STEPS)) for e in range(EPISODES)])
    ends = np.append(np.diff(kept) > 1, True)
    fields = {key: array[kept] for key, array in arrays.items() if key not in ("terminals", "timeouts")}
    return {**fields, "terminals": ends}


def test_terminal_rows_where_episodes_break_off_are_right(found: Found) -> None:
    assert found(fallen()) == []


def test_inverted_flags_stop(found: Found) -> None:
    log = fallen()
    finding = next(each for each in found({**log, "terminals": ~log["terminals"]}) if each.level == "STOP")
    assert finding.name == "terminals-wrong"
    assert "is it inverted, as a mask or a discount is?" in finding.text


@pytest.mark.parametrize(("rows", "word"), [(1, "late"), (-1, "early")])
def test_flags_of_the_row_beside_stop(found: Found, rows: int, word: str) -> None:
    log = fallen()
    finding = only(
        [each for each in found({**log, "terminals": np.roll(log["terminals"], rows)}) if each.level == "STOP"]
    )
    assert finding.name == "terminals-wrong"
    assert f"terminals stands one row too {word} in" in finding.text


@pytest.mark.parametrize("known", [True, False])
def test_a_flag_that_stays_on_is_found(found: Found, log: Arrays, known: bool) -> None:
    log["terminals"] = np.arange(len(ENDS)) % STEPS >= STEPS - 10
    log["timeouts"] = np.zeros(len(ENDS), bool)
    finding = next(each for each in found(log if known else no_next(log)) if each.name == "terminals-wrong")
    assert finding.level == "WARN"
    assert "stays on for several rows in 20 places" in finding.text


@pytest.mark.parametrize(
    ("wrong", "said"), [(lambda s, n: n - s, "holds the change"), (lambda s, n: s, "it is the row's own state")]
)
def test_next_states_that_are_wrong_in_a_third_of_the_rows_stop(
    found: Found, log: Arrays, wrong: Callable[[np.ndarray, np.ndarray], np.ndarray], said: str
) -> None:
    states, following = log["observations"], log["next_observations"]
    following[1400:] = wrong(states[1400:], following[1400:])
    del log["timeouts"]
    finding = next(each for each in found(log) if each.level == "STOP")
    assert finding.name == "next-states-break"
    assert said in finding.text


# Columns that hold what a policy does not know


def test_a_column_that_is_the_rows_own_action_is_named(found: Found, log: Arrays) -> None:
    """Position feedback of a valve: no reason to take the actions for those of another row."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(ENDS))
    log["observations"] = np.column_stack([log["observations"], log["actions"][:, 0] + noise]).astype(np.float32)
    finding = only(found(no_next(log)))
    assert (finding.level, finding.name) == ("WARN", "actions-shifted")
    assert "6 is action 0 of the same row" in finding.text


def test_a_column_of_the_next_row_stops(found: Found, log: Arrays) -> None:
    following = log["next_observations"][:, 2]
    log["observations"] = np.column_stack([log["observations"], following]).astype(np.float32)
    finding = next(each for each in found(no_next(log)) if each.level == "STOP")
    assert finding.name == "actions-shifted"
    assert "6 holds the value of" in finding.text
    assert "of the next row" in finding.text


def test_a_clock_of_one_day_is_no_end_of_an_episode(found: Found, log: Arrays) -> None:
    hour = (np.arange(len(ENDS)) % 48) / 2
    log["observations"] = np.column_stack([log["observations"], hour]).astype(np.float32)
    finding = next(each for each in found(no_next(log)) if each.name == "rows-jump")
    assert finding.level == "WARN"
    assert "alone jumps there" in finding.text


# Rewards that are sums, codes, environments


@pytest.mark.parametrize(("discount", "said"), [(1.0, "to come (return-to-go)"), (0.99, "to come, discounted")])
def test_the_return_to_go_is_no_reward(found: Found, discount: float, said: str) -> None:
    log = pendulum()
    rewards = log["rewards"].astype(float)
    for row in range(len(rewards) - 2, -1, -1):
        rewards[row] += 0 if log["timeouts"][row] else discount * rewards[row + 1]
    finding = next(each for each in found({**log, "rewards": rewards}) if each.name == "rewards-shifted")
    assert f"looks like a sum over the rows {said}" in finding.text


def test_codes_side_by_side_are_found(found: Found, log: Arrays) -> None:
    log["observations"][10:30:2, 1], log["observations"][11:31:2, 1] = -9999, -9998
    finding = next(each for each in found(no_next(log)) if each.name == "values-isolated")
    assert finding.level == "STOP"
    assert "is -9999 or -9998 in 20 rows" in finding.text


def pendulum(**replaced: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    environment, rng = gymnasium.make("Pendulum-v1").unwrapped, np.random.default_rng(0)
    rows: dict[str, list] = {key: [] for key in ("observations", "actions", "rewards", "next_observations")}
    for episode in range(5):
        state, _ = environment.reset(seed=episode)
        for _ in range(200):
            action = rng.uniform(-2, 2, 1).astype(np.float32)
            following, reward, *_ = environment.step(action)
            for key, value in zip(rows, (state, action, reward, following), strict=True):
                rows[key].append(value)
            state = following
    ends = np.arange(1, 1001) % 200 == 0
    arrays = {
        **{key: np.array(values, np.float32) for key, values in rows.items()},
        "terminals": ~ends & ends,
        "timeouts": ends,
    }
    return {key: replaced[key](array) if key in replaced else array for key, array in arrays.items()}


def test_a_log_of_its_environment_has_no_finding(found: Found) -> None:
    assert found(pendulum(), env_id="Pendulum-v1") == []


def test_scaled_actions_of_an_environment_are_named(found: Found) -> None:
    finding = only(found(pendulum(actions=lambda a: a / np.abs(a).max()), env_id="Pendulum-v1"))
    assert (finding.level, finding.name) == ("WARN", "actions-scaled")


def test_states_that_an_environment_cannot_have_are_named(found: Found) -> None:
    scale = {key: lambda s: 3 * s for key in ("observations", "next_observations")}
    finding = only(found(pendulum(**scale), env_id="Pendulum-v1"))
    assert (finding.level, finding.name) == ("WARN", "columns-beyond-environment")


# Types


@pytest.mark.parametrize("kind", [np.float16, np.longdouble])
def test_numbers_of_any_width_are_checked(found: Found, log: Arrays, kind: type) -> None:
    log["observations"] = log["observations"].astype(kind)
    assert found(no_next(log)) == []


def test_unsigned_states_of_several_episodes_keep_their_order(found: Found, log: Arrays) -> None:
    """Differences of unsigned numbers wrap around."""
    low, high = log["observations"].min(0), log["observations"].max(0)
    counts = (1000 + 50000 * (log["observations"] - low) / (high - low)).astype(np.uint16)
    shaped = {
        key: array.reshape(EPISODES, STEPS, *array.shape[1:])
        for key, array in {**no_next(log), "observations": counts}.items()
    }
    remark = next(each.text for each in found(shaped) if each.name == "reading")
    assert remark.startswith("20 episodes of 100 rows each stand one after another")


def test_arrays_of_several_environments_are_named_where_they_are_not_used(found: Found, log: Arrays) -> None:
    log["obs_tp1"] = log.pop("next_observations")
    shaped = {key: array.reshape(EPISODES, STEPS, *array.shape[1:]) for key, array in log.items()}
    finding = next(each for each in found(shaped) if each.level == "STOP")
    assert finding.text.startswith("obs_tp1 has the shape of the observations [2000, 6]")


# Sound logs that look like defects


def test_a_bandit_has_no_ends_that_are_wrong(found: Found, log: Arrays) -> None:
    log["terminals"], log["timeouts"] = np.ones(len(ENDS), bool), np.zeros(len(ENDS), bool)
    assert "terminals-wrong" not in {each.name for each in found(log)}
    assert "terminals-wrong" not in {each.name for each in found(no_next(log))}


def test_short_episodes_have_terminal_rows_side_by_side(found: Found, log: Arrays) -> None:
    log["terminals"], log["timeouts"] = np.random.default_rng(0).random(len(ENDS)) < 0.4, np.zeros(len(ENDS), bool)
    assert "terminals-wrong" not in {each.name for each in found(no_next(log))}


def smooth() -> np.ndarray:
    """Actions that change by a twentieth of their range in a row [N, 2]."""
    walk = np.cumsum(0.05 * np.random.default_rng(0).standard_normal((len(ENDS), 2)), 0)
    return np.sin(walk).astype(np.float32)


@pytest.mark.parametrize("lag", [1, 2])
def test_a_state_that_holds_an_earlier_action_is_no_echo(found: Found, log: Arrays, lag: int) -> None:
    log["actions"] = smooth()
    noise = 0.01 * np.random.default_rng(1).standard_normal((len(ENDS), 2))
    log["observations"] = np.column_stack([log["observations"], np.roll(log["actions"], lag, 0) + noise]).astype(
        np.float32
    )
    assert not [each for each in found(no_next(log)) if "of the same row" in each.text]


def test_a_set_point_that_is_commanded_is_asked_about(found: Found, log: Arrays) -> None:
    """It looks as feedback does."""
    set_point = np.repeat(np.random.default_rng(0).uniform(-0.9, 0.9, len(ENDS) // 25), 25)
    log["actions"][:, 0] = set_point + 0.02 * np.random.default_rng(1).standard_normal(len(ENDS))
    log["observations"] = np.column_stack([log["observations"], set_point]).astype(np.float32)
    finding = next(each for each in found(no_next(log)) if "of the same row" in each.text)
    assert finding.level == "WARN"
    assert "nothing is to be done where it is what the action follows" in finding.fix


def test_stacked_frames_hold_no_next_row(found: Found, log: Arrays) -> None:
    states = log["observations"]
    log["observations"] = np.column_stack([states, np.roll(states, 1, 0)])
    assert not [each for each in found(no_next(log)) if each.level == "STOP"]


def test_half_of_the_columns_jump_where_a_body_is_put_elsewhere(found: Found) -> None:
    """Positions are drawn anew, velocities are 0 as before: ends that are not marked stop."""
    rng, steps, rows = np.random.default_rng(0), 100, 2000
    actions = rng.uniform(-1, 1, (rows, 2))
    state, states = np.zeros(4), []
    for row in range(rows):
        if row % steps == 0:
            state = np.concatenate([rng.uniform(-5, 5, 2), np.zeros(2)])
        states.append(state)
        speed = 0.8 * state[2:] + 0.1 * actions[row]
        state = np.concatenate([state[:2] + 0.1 * speed, speed])
    log = {
        "observations": np.array(states),
        "actions": actions,
        "rewards": -np.square(states).sum(1),
        "terminals": np.zeros(rows),
    }
    finding = next(each for each in found(log) if each.name == "rows-jump")
    assert (finding.level, "every 100 rows" in finding.text or "beginning of an episode" in finding.text) == (
        "STOP",
        True,
    )


def test_a_last_row_that_only_holds_an_observation_is_named(found: Found) -> None:
    log = fallen()
    ends = np.flatnonzero(log["terminals"]) + 1
    last = {"observations": log["next_observations"][ends - 1], "next_observations": log["next_observations"][ends - 1]}
    longer = {key: np.insert(array, ends, last.get(key, 0), 0) for key, array in log.items()}
    finding = next(each for each in found(longer) if each.level == "STOP")
    assert (finding.name, finding.fix) == ("terminals-wrong", "leave that row out")
