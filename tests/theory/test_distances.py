"""Distances against their definition as a supremum, and c against every policy that can be tried."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Problem, problems

from mopo_pl.theory.distances import LineWasserstein, TotalVariation
from mopo_pl.theory.examples import draw_distributions, draw_mdp, draw_policies, draw_positions, fork
from mopo_pl.theory.policies import deterministic_policies
from mopo_pl.theory.returns import values
from mopo_pl.theory.setting import constant_from_rewards, least_constant

SEEDS = st.integers(0, 2**32 - 1)


def two_distributions(seed: int, states: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, draw_distributions(rng, states), draw_distributions(rng, states)


# Distances ------------------------------------------------------------------------------------------------------------


@given(seed=SEEDS, states=st.integers(1, 6))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_total_variation_is_the_largest_difference_of_an_events_probability(seed: int, states: int) -> None:
    _, p, q = two_distributions(seed, states)
    events = itertools.product([0, 1], repeat=states)
    largest = max(sum(e * (p[s] - q[s]) for s, e in enumerate(event)) for event in events)
    between = float(TotalVariation().between(p, q))
    assert between == pytest.approx(largest, abs=1e-12)
    assert between == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)


@given(seed=SEEDS, states=st.integers(1, 6))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_wasserstein_on_a_line_is_between_a_coupling_and_a_lipschitz_function_that_agree(
    seed: int, states: int
) -> None:
    """The cost of one coupling bounds W1 from above, one 1-Lipschitz function from below: where they meet, W1 is."""
    rng, p, q = two_distributions(seed, states)
    positions = draw_positions(rng, states)
    order = sorted(range(states), key=lambda s: positions[s])
    have, want, cost, i, j = [p[s] for s in order], [q[s] for s in order], 0.0, 0, 0
    while i < states and j < states:  # what lies leftmost goes leftmost
        moved = min(have[i], want[j])
        cost += moved * abs(positions[order[i]] - positions[order[j]])
        have[i], want[j] = have[i] - moved, want[j] - moved
        i, j = (i + 1, j) if have[i] <= want[j] else (i, j + 1)
    f, surplus = {order[0]: 0.0}, 0.0
    for left, right in itertools.pairwise(order):
        surplus += p[left] - q[left]
        f[right] = f[left] - np.sign(surplus) * (positions[right] - positions[left])
    gained = sum(f[s] * (p[s] - q[s]) for s in range(states))
    between = float(LineWasserstein(positions).between(p, q))
    assert between == pytest.approx(cost, abs=1e-9)
    assert between == pytest.approx(gained, abs=1e-9)


def test_wasserstein_by_hand() -> None:
    """Half the mass goes from 0 to 10, past the state at 3; the states are not in order."""
    line = LineWasserstein(np.array([10.0, 0.0, 3.0]))
    assert float(line.between(np.array([0.5, 0.0, 0.5]), np.array([0.0, 0.5, 0.5]))) == pytest.approx(5.0)
    assert float(line.constant(np.array([1.0, 0.0, 6.0]))) == pytest.approx(2.0)
    assert line.constant_of_span(6.0) == pytest.approx(2.0)


@given(seed=SEEDS, states=st.integers(1, 6), kind=st.sampled_from(["variation", "line"]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_the_constant_of_a_function_bounds_every_difference_of_means_and_is_attained(
    seed: int, states: int, kind: str
) -> None:
    rng, p, q = two_distributions(seed, states)
    distance = TotalVariation() if kind == "variation" else LineWasserstein(draw_positions(rng, states))
    f = rng.standard_normal(states)
    c = float(distance.constant(f))
    assert abs(p @ f - q @ f) <= c * float(distance.between(p, q)) + 1e-9
    points = np.eye(states)
    pairs = itertools.permutations(range(states), 2)
    slopes = [(f[s] - f[t]) / float(distance.between(points[s], points[t])) for s, t in pairs]
    assert c == pytest.approx(max(slopes, default=0.0), abs=1e-9)
    assert c <= distance.constant_of_span(float(np.ptp(f))) + 1e-9


def test_two_states_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="positions must differ"):
        LineWasserstein(np.array([1.0, 2.0, 1.0]))


# c --------------------------------------------------------------------------------------------------------------------


@given(problem=problems(states=4, actions=3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_one_constant_is_valid_for_every_policy_and_no_smaller_one_is(problem: Problem) -> None:
    mdp, distance = problem.mdp, problem.distance
    c = least_constant(mdp, distance)
    scale = max(1.0, c)
    for policies in (
        draw_policies(problem.rng, mdp, 50),
        problem.rng.dirichlet(np.ones(mdp.actions), (200, mdp.states)),
    ):
        assert float(distance.constant(values(mdp, policies)).max()) <= c + 1e-9 * scale
    attained = max(float(distance.constant(values(mdp, p))) for p in deterministic_policies(mdp.states, mdp.actions))
    assert attained == pytest.approx(c)
    assert c <= constant_from_rewards(mdp, distance) + 1e-9 * scale


def test_values_of_a_mixed_policy_are_no_fixed_mixture_yet_their_span_is_bounded() -> None:
    """The value of a half-half policy lies off the segment between the two pure ones; c bounds it all the same."""
    rng = np.random.default_rng(0)
    mdp = draw_mdp(rng, 3, 2, 0.95)
    pure = deterministic_policies(3, 2)[[0, 7]]
    mixed = values(mdp, pure.mean(0))
    ends = values(mdp, pure)
    along = (mixed - ends[0]) / (ends[1] - ends[0])
    assert np.ptp(along) > 0.05
    assert float(np.ptp(mixed)) <= least_constant(mdp, TotalVariation())


def test_the_posts_constant_is_the_largest_reward_over_one_minus_gamma_for_rewards_from_zero() -> None:
    assert constant_from_rewards(fork().mdp, TotalVariation()) == 1 / (1 - 0.5)
