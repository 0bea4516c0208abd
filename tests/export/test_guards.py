"""What stands between sensors and a policy, the same in the policy and in the NumPy runner."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from failing_sensor import Fails, Played, is_stuck, play, shows_nan

from mopo_pl.errors import ActionsNotFinite
from mopo_pl.export import run_policy
from mopo_pl.export.exporting import export_policy
from mopo_pl.policy import Policy

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)
NAN, INF = np.nan, np.inf
SAFE = [0.5, 2.0]


@pytest.fixture(params=["policy", "numpy"])
def make(request: pytest.FixtureRequest, for_numpy: dict[int, Any]) -> Callable[..., Any]:
    """Makes either form, with guards: `history` 1 or 3."""

    def made(history: int = 1, **guards: Any) -> Any:
        exported = for_numpy[history]
        if request.param == "numpy":
            return run_policy.Policy(exported.folder / "policy.npz", **guards)
        policy = pickle.loads(pickle.dumps(exported.policy))
        return policy.guard(**guards)

    return made


# What is taken


def test_a_dict_by_name_is_the_observation_in_any_order(make: Callable[..., Any], states: np.ndarray) -> None:
    act = make()
    one = {"flow": states[0, 2], "temp": float(states[0, 0]), "pressure": states[0, 1]}
    np.testing.assert_allclose(act(one), act(states[0]), atol=2e-6)
    batch = {"flow": states[:, 2], "temp": states[:, 0], "pressure": states[:, 1]}
    np.testing.assert_allclose(act(batch), act(states), atol=2e-6)
    assert act(batch).shape == (300, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temp": 1.0, "flow": 1.0}, "an observation given as a dict holds each column by its name; this one lacks pressure"),
        ({"temp": 1.0, "flow": 1.0, "pressure": 1.0, "pump": 1.0}, "this one has pump, which is no column"),
        ({"temp": [1.0, 2.0], "flow": 1.0, "pressure": 1.0}, "holds one number, or as many, for each column"),
        ({"temp": [[1.0], [1.0, 2.0]], "flow": 1.0, "pressure": 1.0}, "holds one number, or as many, for each column"),
        (dict.fromkeys(("temp", "pressure", "flow"), np.zeros((1,) * 64)), "holds one number, or as many, for each column"),
        (
            {"temp": 1.0, "flow": 1.0, "pressure": 1.0} | {f"x{i}": 1.0 for i in range(9)},
            "this one has x0, x1, x2, x3, x4 and 4 more, which is no column",
        ),
        ({"temp": 1.0, "flow": 1.0, "pressure": 1.0, "y" * 50: 1.0}, f"this one has {'y' * 40}, which is no column"),
        (
            {"temp": "hot", "flow": 1.0, "pressure": 1.0},
            "an observation is a vector of 3 real numbers, or a batch of such; this is a dict of what are no real numbers",
        ),
        (np.zeros(4), "observation has shape (4,); the last must be 3"),
        (np.zeros(1), "observation has shape (1,); the last must be 3"),
        (3.0, "an observation is a vector of 3 real numbers, or a batch of such; this is a number"),
        ((np.zeros(3), {}), "a pair: write observation, info = env.reset()"),
        (None, "this is a NoneType"),
        ("warm", "this is a str"),
        ([[0.0, 0.0, 0.0], [0.0]], "of what are no real numbers"),
        (np.zeros(3, complex), "of what are no real numbers"),
        (np.array([1.0, NAN, 1.0]), "the observation is not finite: it holds NaN, inf, or a number too large for the policy's precision, in column pressure"),
        (np.array([1e300, 0.0, -INF]), "in columns temp, flow"),
    ],
)  # fmt: skip
def test_what_is_no_observation_is_refused_in_one_sentence(make: Callable[..., Any], given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        make()(given)
    assert "\n" not in str(caught.value)


# Beyond the log


def test_what_lies_beyond_the_log_is_counted_by_column(make: Callable[..., Any], states: np.ndarray) -> None:
    act = make()
    act(states)
    act(states[0])
    assert act.outside == {"temp": 0, "pressure": 0, "flow": 0}
    act(np.array([[0, 2.5, 0], [-1.5, -2.5, 0], [0, 0, 3]]))
    assert act.outside_now == ("temp", "pressure")
    act(np.array([0, 0, 3.001]))
    assert act.outside == {"temp": 1, "pressure": 2, "flow": 1}
    assert act.outside_now == ("flow",)
    act(states[0])
    assert act.outside_now == ()
    assert (act.outside, act.invalid) == ({"temp": 1, "pressure": 2, "flow": 1}, 0)


def test_a_float64_that_rounds_into_the_range_is_inside(make: Callable[..., Any]) -> None:
    act = make()
    act(np.array([1.0 + 1e-9, 0.0, 0.0]))
    assert act.outside["temp"] == 0
    act(np.array([1.0 + 1e-6, 0.0, 0.0]))
    assert act.outside["temp"] == 1


def test_a_policy_of_no_known_range_counts_nothing_and_still_refuses_nan(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    policy = make_policy()
    policy = Policy(policy.actor, policy.action_low, policy.action_high, {})
    how: Any = {"forms": ("numpy",), "logged": None, "distribution": False, "licence": "not stated"}
    export_policy(policy, tmp_path, **how)
    for act in (policy, run_policy.Policy(tmp_path / "policy.npz")):
        act(np.full(3, 1e6))
        assert act.outside == {"0": 0, "1": 0, "2": 0}
        with pytest.raises(ValueError, match="in column 1"):
            act(np.array([0, NAN, 0]))


# Not finite


@pytest.mark.parametrize("history", [1, 3])
def test_the_last_action_stands_for_that_of_a_broken_observation(
    make: Callable[..., Any], states: np.ndarray, history: int
) -> None:
    act, broken = make(history, on_invalid="last"), np.array([0.0, NAN, 0.0])
    first = act(states[0])
    assert np.array_equal(act(broken), first)
    assert np.array_equal(act(broken), first)
    assert act.invalid == 2
    assert not np.array_equal(act(states[1]), first)


def test_without_a_last_action_there_is_the_safe_one_or_an_error(make: Callable[..., Any]) -> None:
    broken = np.array([0.0, NAN, 0.0])
    with pytest.raises(ValueError, match="on_invalid='last' has no last action yet: give safe_action"):
        make(on_invalid="last")(broken)
    assert make(on_invalid="last", safe_action=SAFE)(broken).tolist() == SAFE
    act = make(on_invalid="last", safe_action=SAFE)
    act(np.zeros(3))
    act.reset()
    assert act(broken).tolist() == SAFE


@pytest.mark.parametrize("history", [1, 3])
def test_the_rows_of_a_batch_fall_back_alone(make: Callable[..., Any], states: np.ndarray, history: int) -> None:
    act, whole = make(history, on_invalid="safe_action", safe_action=SAFE), make(history)
    rows = states[:4].copy()
    expected = whole(rows)
    rows[2, 1] = INF
    made = act(rows)
    assert made[2].tolist() == SAFE
    np.testing.assert_array_equal(made[[0, 1, 3]], expected[[0, 1, 3]])
    assert act.invalid == 1


def test_the_window_holds_what_was_last_seen_and_what_was_done(
    make: Callable[..., Any], for_numpy: dict[int, Any], states: np.ndarray
) -> None:
    """After a broken step the state is (o_2, o_0, o_0 | a_1, a_0), o_0 standing for o_1 and the safe action for a_1."""
    act = make(3, on_invalid="safe_action", safe_action=SAFE)
    first = act(states[0])
    act(np.full(3, NAN))
    scaled = [2 * (np.array(action) - LOW) / (HIGH - LOW) - 1 for action in (SAFE, first)]
    state = np.concatenate([states[2], states[0], states[0], *scaled])
    squashed = for_numpy[3].policy.actor.mean_action(torch.as_tensor(state, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(act(states[2]), LOW + (squashed + 1) / 2 * (HIGH - LOW), atol=2e-5)


# Finite, but too large for the network


HUGE = np.full(3, 3e38)


@pytest.mark.parametrize("history", [1, 3])
def test_a_number_at_which_the_network_overflows_is_refused_in_one_sentence(
    make: Callable[..., Any], states: np.ndarray, history: int
) -> None:
    act, same = (make(history, rate_limits={"*": 0.5}) for _ in range(2))
    for each in (act, same):
        each(states[0])
    with pytest.raises(ValueError, match="the action is not finite: the observation holds a number that is too large"):
        act(HUGE)
    assert act.invalid == 1
    expected = same(states[1])
    assert history > 1 or np.array_equal(act(states[1]), expected)  # as if it had not been asked
    assert np.isfinite(act(states[1])).all()


@pytest.mark.parametrize("history", [1, 3])
def test_a_number_at_which_the_network_overflows_leads_to_the_fallback_of_its_row(
    make: Callable[..., Any], states: np.ndarray, history: int
) -> None:
    """As an observation that is not finite does, in the window too."""
    rows = states[:12].reshape(4, 3, 3).copy()
    ours, theirs = (make(history, on_invalid="safe_action", safe_action=SAFE) for _ in range(2))
    for step, seen in enumerate(rows):
        huge, broken = seen.copy(), seen.copy()
        if step == 1:
            huge[2], broken[2] = HUGE, NAN
        made = ours(huge)
        assert np.array_equal(made, theirs(broken))
        assert (made[2].tolist() == SAFE) == (step == 1)
    assert (ours.invalid, theirs.invalid) == (1, 1)
    held = make(history, on_invalid="last")
    assert np.array_equal(held(states[0]), held(HUGE))


def test_an_evaluation_is_told_which_actions_are_no_numbers(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    rows = np.stack([np.zeros(3), HUGE])
    with pytest.raises(ActionsNotFinite) as caught:
        policy(rows)
    np.testing.assert_allclose(caught.value.actions[0], policy(rows[0]), atol=2e-6)
    assert np.isnan(caught.value.actions[1]).all()


@pytest.mark.parametrize(
    ("guards", "said"),
    [
        ({"on_invalid": "ignore"}, "on_invalid='ignore' is none of error, last, safe_action"),
        ({"on_invalid": "safe_action"}, "on_invalid='safe_action' needs safe_action=[...]"),
        ({"safe_action": [0.5]}, "safe_action=[0.5] is no action within the bounds [-1.0, 0.0] to [3.0, 10.0]"),
        ({"safe_action": [0.5, 11]}, "safe_action=[0.5, 11] is no action within"),
        ({"safe_action": [NAN, 1]}, "is no action within"),
        ({"safe_action": 0.5}, "safe_action=0.5 is no action within the bounds [-1.0, 0.0] to [3.0, 10.0]"),
        ({"safe_action": ["a", "b"]}, "safe_action=['a', 'b'] is no action within"),
        ({"safe_action": [[1], [1, 2]]}, "safe_action=[[1], [1, 2]] is no action within"),
        ({"safe_action": {"valve": 1}}, "safe_action={'valve': 1} is no action within"),
        ({"safe_action": np.array([1j, 0])}, "safe_action=[1j, 0j] is no action within"),
        ({"safe_action": [1e300, 0]}, "safe_action=[1e+300, 0] is no action within"),
        ({"rate_limits": {"valv": 1.0}}, "rate_limits: valv=1.0 is of no action column: valve, pump"),
        ({"rate_limits": {"valve": 0.0}}, "rate_limits: valve=0.0 is not above 0"),
        ({"rate_limits": {"valve": NAN}}, "rate_limits: valve=nan is not above 0"),
        ({"rate_limits": {"valve": None}}, "rate_limits: valve=None is not above 0"),
        ({"rate_limits": {"valve": [1, 2]}}, "rate_limits: valve=[1, 2] is not above 0"),
        ({"rate_limits": {"valve": 1e-300}}, "rate_limits: valve=1e-300 is not above 0"),
        ({"rate_limits": {1: 1.0}}, "rate_limits: 1=1.0 is of no action column: valve, pump"),
    ],
)
def test_guards_that_do_not_fit_are_refused(make: Callable[..., Any], guards: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        make(**guards)


# Actions


def test_actions_change_by_the_rate_at_most_and_the_first_is_free(make: Callable[..., Any], states: np.ndarray) -> None:
    act, free = make(rate_limits={"valve": 0.25}), make()
    taken, wanted = np.stack([act(s) for s in states[:50]]), np.stack([free(s) for s in states[:50]])
    expected = [wanted[0, 0]]
    for value in wanted[1:, 0]:
        expected.append(np.clip(value, expected[-1] - 0.25, expected[-1] + 0.25))
    np.testing.assert_allclose(taken[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(taken[:, 1], wanted[:, 1], atol=1e-5)
    assert np.abs(np.diff(wanted[:, 0])).max() > 1
    act.reset()
    np.testing.assert_allclose(act(states[7]), wanted[7], atol=1e-5)


def test_a_pattern_of_names_limits_every_action_and_a_fallback_too(make: Callable[..., Any]) -> None:
    act = make(on_invalid="safe_action", safe_action=SAFE, rate_limits={"*": 0.125})
    first = act(np.zeros(3))
    after = act(np.full(3, NAN))
    np.testing.assert_allclose(after, first + np.clip(SAFE - first, -0.125, 0.125), atol=1e-6)


def test_a_batch_of_another_size_needs_a_reset(make: Callable[..., Any], states: np.ndarray) -> None:
    act = make(rate_limits={"valve": 0.25})
    act(states[:4])
    with pytest.raises(ValueError, match=r"the last actions were \[4, 2\], these are \[2\]: call policy.reset\(\)"):
        act(states[0])
    act.reset()
    act(states[0])


@pytest.mark.parametrize("guards", [{"on_invalid": "last"}, {"on_invalid": "safe_action"}])
@pytest.mark.parametrize(("before", "after"), [((4,), ()), ((4,), (1,)), ((4,), (2,)), ((0,), (1,)), ((), (4,))])
def test_a_broken_observation_does_not_take_the_rows_of_a_batch_of_another_size(
    make: Callable[..., Any], guards: dict[str, Any], before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    act, alike = (make(history=3, safe_action=SAFE, **guards) for _ in range(2))
    for each in (act, alike):
        each(np.zeros((*before, 3)))
    said = f"the last step was of observations {[*before, 3]}, this one is of {[*after, 3]}: call policy.reset() before another"
    with pytest.raises(ValueError, match=re.escape(said)):
        act(np.full((*after, 3), NAN))
    assert (act.invalid, act.outside) == (0, alike.outside)
    np.testing.assert_array_equal(act(np.ones((*before, 3))), alike(np.ones((*before, 3))))


def test_guards_that_are_refused_change_none_of_those_before(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy().guard(on_invalid="safe_action", safe_action=SAFE)
    with pytest.raises(ValueError, match="is of no action column"):
        policy.guard(on_invalid="safe_action", safe_action=[3.0, 9.0], rate_limits={"valv": 1.0})
    np.testing.assert_array_equal(policy(np.full(3, NAN)), np.array(SAFE, np.float32))


@pytest.mark.parametrize("moved", ["before", "after"])
@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_guards_follow_a_policy_to_another_precision(
    make_policy: Callable[..., Policy], precision: torch.dtype, moved: str
) -> None:
    """As to another device, to which tensors must be moved as well."""
    policy = make_policy(history=3).guard(on_invalid="last", rate_limits={"*": 0.25})
    if moved == "before":
        policy.to(precision)
    first = policy(torch.zeros(3))
    policy.to(precision)
    steps = [policy(torch.full((3,), NAN)), policy(torch.ones(3)), policy(torch.full((3,), NAN))]
    assert [step.dtype for step in steps] == [precision] * 3
    assert torch.equal(steps[0], first.to(precision))
    assert torch.equal(steps[2], steps[1])
    assert 0 < (steps[1] - steps[0]).abs().max() <= 0.25 + 2**-5


def test_a_masked_value_is_none_that_was_measured(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="in column pressure"):
        make()(np.ma.masked_equal([0, 9, 0], 9))
    act = make(on_invalid="safe_action", safe_action=SAFE)
    np.testing.assert_array_equal(act(np.ma.masked_equal([0, 9, 0], 9)), np.array(SAFE, np.float32))
    np.testing.assert_allclose(act(np.ma.masked_equal([0, 1, 0], 9)), act(np.array([0, 1, 0])), atol=2e-6)
    columns = {"temp": np.ma.masked_all(2), "pressure": [0, 1], "flow": [0, 1]}
    np.testing.assert_array_equal(act(columns), np.array([SAFE, SAFE], np.float32))


def test_actions_never_leave_their_bounds(make: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e3, 1e30):
        rows = rng.standard_normal((200, 3)) * scale
        for actions in (make()(rows), np.stack([make(rate_limits={"*": 0.3})(row) for row in rows[:20]])):
            assert (actions >= LOW).all()
            assert (actions <= HIGH).all()


def test_rounding_does_not_leave_the_bounds(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    """low + 2·(high - low)/2 is above high for these bounds in float32, and tanh 50 is 1."""
    pairs = np.random.default_rng(0).uniform(-1, 1, (1000, 2)).astype(np.float32)
    low, high = np.sort(pairs, 1).T
    beyond = np.flatnonzero(low + np.float32(2) * ((high - low) / np.float32(2)) > high)[:2]
    policy = make_policy()
    head = policy.actor.layers[-1]
    with torch.no_grad():
        head.bias.add_(torch.tensor([1e4, 1e4, 0.0, 0.0]))  # type: ignore[union-attr]
    policy = Policy(policy.actor, low[beyond], high[beyond], policy.meta)
    how: Any = {"forms": ("numpy",), "logged": None, "distribution": False, "licence": "not stated"}
    export_policy(policy, tmp_path, **how)
    for act in (policy, run_policy.Policy(tmp_path / "policy.npz")):
        assert np.array_equal(act(np.zeros(3)), high[beyond])
        assert np.array_equal(act(np.zeros((2, 3)))[1], high[beyond])


def test_both_forms_act_alike_through_any_faults(for_numpy: dict[int, Any]) -> None:
    delayed = for_numpy[3]
    rng = np.random.default_rng(2)
    rows = np.where(rng.random((60, 4, 3)) < 0.1, NAN, rng.uniform(-4, 4, (60, 4, 3)))
    guards: Any = {"on_invalid": "last", "safe_action": SAFE, "rate_limits": {"pump": 1.5}}
    runner = run_policy.Policy(delayed.folder / "policy.npz", **guards)
    policy = pickle.loads(pickle.dumps(delayed.policy)).guard(**guards)
    for step in rows:
        np.testing.assert_allclose(runner(step), policy(step), atol=5e-4)
        assert runner.outside_now == policy.outside_now
    assert runner.outside == policy.outside
    assert (runner.invalid, policy.invalid) == (np.isnan(rows).any(-1).sum(),) * 2


@pytest.mark.parametrize("fault", [shows_nan(2), is_stuck(2)], ids=["NaN", "stuck"])
def test_a_sensor_that_fails_midway_ends_or_goes_on_as_was_asked(make: Callable[..., Any], fault: Fails) -> None:
    """The angle's rate of a pendulum fails at step 100 of 200; the value that it is stuck at is a number like any other."""
    environment = gymnasium.make("Pendulum-v1")
    nan = bool(np.isnan(fault(np.zeros(3), np.zeros(3))[2]))

    def episode(**guards: Any) -> tuple[Played, list[np.ndarray]]:
        policy, actions = make(**guards), []

        class First(gymnasium.ActionWrapper):
            def action(self, action: np.ndarray) -> np.ndarray:
                actions.append(action)
                return action[:1]

        return play(policy, First(environment), seed=0, fails=fault, from_step=100), actions

    ended, _ = episode()
    assert (ended.steps, ended.error, ended.invalid) == ((100, True, 1) if nan else (200, False, 0))
    for guards in ({"on_invalid": "last"}, {"on_invalid": "safe_action", "safe_action": SAFE}):
        played, actions = episode(**guards)
        assert (played.steps, played.error, played.invalid) == (200, False, 100 if nan else 0)
        assert played.total < ended.total or not nan
        known = actions[99].tolist() if guards["on_invalid"] == "last" else SAFE
        assert all(action.tolist() == known for action in actions[100:]) == nan


def test_a_sensor_that_comes_back_is_heard_again(make: Callable[..., Any]) -> None:
    """NaN from step 60 to 80."""
    environment, held = gymnasium.make("Pendulum-v1"), make(on_invalid="last")
    observation, _ = environment.reset(seed=0)
    actions: list[np.ndarray] = []
    for step in range(120):
        seen = shows_nan(2)(observation, observation) if 60 <= step < 80 else observation
        actions.append(held(seen))
        observation, _, _, _, _ = environment.step(actions[-1][:1])
    assert held.invalid == 20
    assert all(np.array_equal(action, actions[59]) for action in actions[60:80])
    assert not np.array_equal(actions[80], actions[59])
