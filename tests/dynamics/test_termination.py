"""The rules against the environments they are taken from, and by hand where no simulation goes."""

import math
import sys
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from mopo_pl.dynamics.termination import (
    RULES,
    StateBox,
    ant,
    hopper,
    never,
    rule_for,
    termination_rule,
    walker2d,
)
from mopo_pl.errors import InputError

NAN, INF = math.nan, math.inf


def ended(rule: Any, *states: list[float]) -> list[bool]:
    after = torch.tensor(states)
    return rule(torch.zeros_like(after), torch.zeros(len(after), 1), after).tolist()


def play(env_id: str, steps: int, **arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """s, a, s' and whether the environment said that the task ended, under random actions."""
    environment = gymnasium.make(env_id, max_episode_steps=100_000, **arguments)
    environment.action_space.seed(0)
    before, _ = environment.reset(seed=0)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, bool]] = []
    for i in range(steps):
        action = environment.action_space.sample()
        after, _, terminal, _, _ = environment.step(action)
        rows.append((before, action, after, bool(terminal)))
        # A few steps beyond each end, so that states on the far side are compared too.
        reset = terminal and i % 4 == 0
        before = environment.reset()[0] if reset else after
    environment.close()
    s, a, after, terminals = (torch.as_tensor(np.array(column)) for column in zip(*rows, strict=True))
    return s, a, after, terminals


@pytest.mark.parametrize(
    ("env_id", "steps", "arguments"),
    [
        ("Hopper-v5", 3000, {}),
        ("Walker2d-v5", 3000, {}),
        ("Ant-v5", 1500, {}),
        ("Ant-v5", 1500, {"include_cfrc_ext_in_observation": False}),
        ("HalfCheetah-v5", 1000, {}),
    ],
    ids=["hopper", "walker2d", "ant", "ant with 27 observations", "halfcheetah"],
)
def test_the_rule_agrees_with_the_environment_at_every_step(env_id: str, steps: int, arguments: dict[str, Any]) -> None:
    s, a, after, terminals = play(env_id, steps, **arguments)
    torch.testing.assert_close(termination_rule(None, env_id)(s, a, after), terminals)
    if env_id != "HalfCheetah-v5":
        assert 5 < terminals.sum() < steps  # both sides of the rule were seen


def test_hopper_ends_at_either_bound_of_every_coordinate_but_the_height() -> None:
    healthy = [1.25] + [0.0] * 10
    for i in range(2, 11):
        for value, ends in [(99.9, False), (100.1, True), (-99.9, False), (-100.1, True)]:
            state = [*healthy]
            state[i] = value
            assert ended(hopper, state) == [ends], f"coordinate {i} at {value}"


def test_hopper_may_be_as_high_as_it_likes() -> None:
    assert ended(hopper, [150.0] + [0.0] * 10) == [False]


def test_hopper_ends_below_its_height_or_beyond_its_angle() -> None:
    rest = [0.0] * 9
    assert ended(hopper, [0.71, 0.0, *rest], [0.69, 0.0, *rest]) == [False, True]
    assert ended(hopper, [1.2, 0.19, *rest], [1.2, 0.21, *rest], [1.2, -0.21, *rest]) == [False, True, True]


def test_walker2d_has_a_ceiling_too() -> None:
    rest = [0.0] * 15
    assert ended(walker2d, [0.79, 0.0, *rest], [0.81, 0.0, *rest], [1.99, 0.0, *rest], [2.01, 0.0, *rest]) == [
        True,
        False,
        False,
        True,
    ]
    assert ended(walker2d, [1.2, 0.99, *rest], [1.2, 1.01, *rest], [1.2, -1.01, *rest]) == [False, True, True]


def test_ants_bounds_belong_to_the_healthy_states() -> None:
    rest = [0.0] * 26
    assert ended(ant, [0.2, *rest], [0.19, *rest], [1.0, *rest], [1.01, *rest]) == [False, True, False, True]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_height_that_is_no_number_ends_every_task_that_tests_heights(value: float) -> None:
    assert ended(hopper, [value] + [0.0] * 10) == [value != INF]  # Hopper has no ceiling
    assert ended(walker2d, [value] + [0.0] * 16) == [True]
    assert ended(ant, [value] + [0.0] * 26) == [True]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_any_coordinate_that_is_no_number_ends_hopper_and_ant(value: float) -> None:
    for i in range(1, 11):
        state = [1.25] + [0.0] * 10
        state[i] = value
        assert ended(hopper, state) == [True]
    assert ended(ant, [0.5] + [0.0] * 20 + [value] + [0.0] * 5) == [True]


def test_rules_keep_any_leading_shape() -> None:
    for rule in RULES.values():
        after = torch.zeros(2, 3, 11)
        assert rule(after, torch.zeros(2, 3, 3), after).shape == (2, 3)


@pytest.mark.parametrize(
    ("env_id", "family"),
    [
        ("Hopper-v5", "hopper"),
        ("Walker2d-v2", "walker2d"),
        ("HalfCheetah-v4", "halfcheetah"),
        ("Pendulum-v1", "pendulum"),
        ("mopo_pl/DMSD-v0", "dmsd"),
        ("hopper", "hopper"),
        ("CartPole-v1", None),
    ],
)
def test_an_environments_id_names_its_rule(env_id: str, family: str | None) -> None:
    assert rule_for(env_id) == family


@pytest.mark.parametrize(
    ("name", "alive"), [("halfcheetah-within-100", [0.0, 0.0, 0.0]), ("walker2d-within-100", [1.2, 0.0, 0.0])]
)
def test_the_kits_rules_end_where_a_coordinate_reaches_100(name: str, alive: list[float]) -> None:
    rule = termination_rule(name, None)
    edge = [99.9, -99.9, 100.0, -100.0, INF, NAN]
    states = [[*alive[:2], value] for value in edge]
    assert ended(rule, alive, *states) == [False, False, False, True, True, True, True]
    assert ended(rule, [100.0, 0.0, 0.0], [-100.0, 0.0, 0.0]) == [True, True]


def test_the_kits_walker_falls_as_gymnasiums_does() -> None:
    states = torch.tensor(
        [[z, angle, v] for z in (0.79, 0.81, 1.99, 2.01) for angle in (-1.1, 0.9) for v in (-9.0, 9.0)]
    )
    nothing = torch.zeros(len(states), 1)
    expected = walker2d(states, nothing, states)
    assert torch.equal(RULES["walker2d-within-100"](states, nothing, states), expected)
    assert expected.any()
    assert not expected.all()


def test_the_named_rule_wins_over_the_environments() -> None:
    assert termination_rule("never", "Hopper-v5") is never
    assert termination_rule("Walker2d-v5", "Hopper-v5") is walker2d


def test_a_rule_of_ones_own_is_found_by_module_and_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_rules")
    module.far = lambda s, a, after: after[..., 0] > 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_rules", module)
    assert ended(termination_rule("my_rules:far", None), [0.5], [1.5]) == [False, True]


# Limits of columns


COLUMNS = ["temp", "joint_a", "joint_b", "joint_*"]


def test_a_box_ends_where_a_named_column_of_the_next_state_leaves_its_limits() -> None:
    rule = termination_rule({"bounds": {"temp": [0, 90], "joint_b": [-1.5, None]}}, None, COLUMNS)
    healthy = [45.0, 1e9, 0.0, -1e9]
    assert ended(rule, healthy, [0.0, 0, -1.5, 0], [90.0, 0, INF, 0]) == [False] * 3
    assert ended(rule, [-0.01, *healthy[1:]], [90.01, *healthy[1:]]) == [True, True]
    far = termination_rule({"bounds": {"temp": [-(10**20), 10**20]}}, None, COLUMNS)  # more than an int64
    assert ended(far, healthy, [-2e20, 0, 0, 0]) == [False, True]
    assert ended(rule, [45.0, 0, -1.51, 0], [NAN, *healthy[1:]], [45.0, 0, NAN, 0]) == [True] * 3


def test_a_box_looks_at_the_next_state_alone() -> None:
    rule = termination_rule({"bounds": {0: [0, 1]}}, None, ["0"])
    inside, outside = torch.full((1, 1), 0.5), torch.full((1, 1), 2.0)
    assert rule(outside, outside, inside).tolist() == [False]
    assert rule(inside, inside, outside).tolist() == [True]


def test_a_pattern_takes_all_columns_that_match_unless_a_column_has_that_name() -> None:
    one = StateBox.of_columns({"joint_*": [-1, 1]}, COLUMNS)
    assert one.high.tolist() == [INF, INF, INF, 1.0]
    all_of_them = StateBox.of_columns({"joint_?": [-1, 1], "*": [None, 5], "joint_a": [-2, 0.5]}, COLUMNS)
    assert all_of_them.low.tolist() == [-INF, -1.0, -1.0, -1.0]
    assert all_of_them.high.tolist() == [5.0, 0.5, 1.0, 1.0]


def test_columns_that_are_not_there_are_all_named() -> None:
    with pytest.raises(InputError) as error:
        StateBox.of_columns({"tmp": [0, 1], "wheel_*": [0, 1], "temp": [0, 1]}, ["temp", "joint"])
    assert error.value.problems == [
        "termination.bounds.tmp: there is no such observation column; did you mean temp?",
        "termination.bounds.wheel_*: there is no such observation column (there are: temp, joint)",
    ]


@pytest.mark.parametrize(
    ("name", "env_id", "says"),
    [(None, "CartPole-v1", "CartPole-v1"), (None, None, "without env_id"), ("hoper", None, "Did you mean hopper")],
)
def test_an_unknown_rule_is_an_input_error_that_says_so(name: str | None, env_id: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        termination_rule(name, env_id)
