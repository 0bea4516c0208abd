"""Returns and occupancies against slow re-derivations, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import slow_derivations
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Problem, problems

from mopo_pl.theory.mdp import FiniteMDP, check_model
from mopo_pl.theory.policies import deterministic_policies, grid_policies, maximiser
from mopo_pl.theory.returns import (
    action_values,
    expected_return,
    occupancy,
    occupancy_sum,
    truncated_return,
    values,
)


def size(mdp: FiniteMDP) -> float:
    """What a return may amount to."""
    return max(1.0, float(np.abs(mdp.rewards).max()) / (1 - mdp.discount))


def coin() -> FiniteMDP:
    """Two states that pay 0 and 1; either action goes to state 1 with probability 1/4 or 3/4; γ = 1/2."""
    transitions = np.array([[[0.75, 0.25], [0.25, 0.75]]] * 2)
    return FiniteMDP(transitions, np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.0]), 0.5)


# Slow re-derivations --------------------------------------------------------------------------------------------------


@given(problem=problems())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_return_is_the_sum_over_powers_of_the_transition_matrix(problem: Problem) -> None:
    for policy in problem.policies()[:3]:
        slow = slow_derivations.expected_return(problem.mdp, policy)
        assert float(expected_return(problem.mdp, policy)) == pytest.approx(slow, abs=1e-9 * size(problem.mdp))


@given(problem=problems(states=3, actions=2, discounts=st.floats(0.0, 0.95)))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_an_occupancy_is_the_distribution_pushed_forward_and_sums_to_one_over_one_minus_gamma(problem: Problem) -> None:
    mdp = problem.mdp
    for policy in problem.policies()[:2]:
        rho = occupancy(mdp, policy)
        np.testing.assert_allclose(rho, slow_derivations.occupancy(mdp, policy), atol=1e-9 / (1 - mdp.discount))
        assert rho.sum() == pytest.approx(1 / (1 - mdp.discount))
        assert (rho >= -1e-12).all()
        assert float(occupancy_sum(mdp, policy, mdp.rewards)) == pytest.approx(
            slow_derivations.expected_return(mdp, policy), abs=1e-9 * size(mdp)
        )


@given(problem=problems(), steps=st.integers(0, 8))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_return_of_some_steps_is_the_sum_cut_there(problem: Problem, steps: int) -> None:
    policy = problem.policies()[0]
    cut = float(truncated_return(problem.mdp, policy, steps))
    assert cut == pytest.approx(
        slow_derivations.expected_return(problem.mdp, policy, steps), abs=1e-9 * size(problem.mdp)
    )
    left = problem.mdp.discount**steps * size(problem.mdp)
    rounding = 1e-12 * size(problem.mdp)
    assert abs(cut - float(expected_return(problem.mdp, policy))) <= left + rounding


@given(problem=problems())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_maximiser_earns_what_value_iteration_promises(problem: Problem) -> None:
    best = maximiser(problem.mdp)
    assert set(np.unique(best)) <= {0.0, 1.0}
    promised = float(problem.mdp.start @ slow_derivations.optimal_values(problem.mdp))
    assert float(expected_return(problem.mdp, best)) == pytest.approx(promised, abs=1e-9 * size(problem.mdp))


# By hand --------------------------------------------------------------------------------------------------------------


def test_values_by_hand() -> None:
    """With action 1, V₁ - V₀ = 1 and V₀ = (V₀ + 3/4)/2, hence V₀ = 3/4."""
    always = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert values(coin(), always).tolist() == pytest.approx([0.75, 1.75])
    assert action_values(coin(), always).tolist() == [pytest.approx([0.5, 0.75]), pytest.approx([1.5, 1.75])]


def test_a_batch_of_policies_gives_what_each_gives_alone() -> None:
    batch = deterministic_policies(2, 2).reshape(2, 2, 2, 2)
    rho = occupancy(coin(), batch)
    assert expected_return(coin(), batch).shape == (2, 2)
    for i, j in np.ndindex(2, 2):
        assert float(expected_return(coin(), batch)[i, j]) == float(expected_return(coin(), batch[i, j]))
        np.testing.assert_array_equal(rho[i, j], occupancy(coin(), batch[i, j]))


def test_a_terminal_state_is_never_left_and_pays_nothing() -> None:
    """State 1 pays 1 and ends: from state 0, one comes there once in a while, and earns nothing after."""
    ended = coin().ending_in([1])
    assert ended.transitions[1].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert expected_return(ended, deterministic_policies(2, 2)).tolist() == [0.0] * 4
    assert coin().rewards[1].tolist() == [1.0, 1.0]


def test_the_penalised_mdp_pays_lambda_u_less_and_moves_alike() -> None:
    penalised = coin().penalised([[1.0, 2.0], [0.0, 4.0]], 0.5)
    assert penalised.rewards.tolist() == [[-0.5, -1.0], [1.0, -1.0]]
    assert np.array_equal(penalised.transitions, coin().transitions)


def test_policies_are_all_there_once() -> None:
    every = deterministic_policies(3, 2)
    assert len({policy.tobytes() for policy in every}) == len(every) == 8
    grid = grid_policies(2, 3, 4)
    assert len({policy.tobytes() for policy in grid}) == len(grid) == 15**2
    np.testing.assert_allclose(grid.sum(-1), 1.0)
    assert {policy.tobytes() for policy in deterministic_policies(2, 3)} <= {policy.tobytes() for policy in grid}


def test_of_equal_policies_the_first_is_taken() -> None:
    same = coin().with_transitions(np.full((2, 2, 2), 0.5))
    assert maximiser(same).argmax(-1).tolist() == [0, 0]


# What is refused ------------------------------------------------------------------------------------------------------

GOOD = coin()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FiniteMDP(GOOD.transitions, GOOD.rewards, GOOD.start, 1.0), r"discount must lie in \[0, 1\)"),
        (lambda: FiniteMDP(GOOD.transitions, GOOD.rewards, GOOD.start, -0.1), "discount must lie"),
        (lambda: FiniteMDP(GOOD.transitions, GOOD.rewards[0], GOOD.start, 0.5), "a table of states by actions"),
        (
            lambda: FiniteMDP(GOOD.transitions[:, :1], GOOD.rewards, GOOD.start, 0.5),
            r"transitions has shape \(2, 1, 2\)",
        ),
        (lambda: FiniteMDP(GOOD.transitions, GOOD.rewards, np.ones(3) / 3, 0.5), r"start has shape \(3,\), not \(2,\)"),
        (lambda: FiniteMDP(GOOD.transitions / 2, GOOD.rewards, GOOD.start, 0.5), "transitions must be distributions"),
        (lambda: FiniteMDP(GOOD.transitions, GOOD.rewards, np.array([1.5, -0.5]), 0.5), "start must be distributions"),
        (lambda: GOOD.with_rewards(GOOD.rewards * np.nan), "rewards holds values that are not finite"),
        (lambda: GOOD.penalised(-np.ones((2, 2)), 1.0), "u must not be negative"),
        (lambda: GOOD.penalised(np.ones(2), 1.0), "u has shape"),
        (lambda: GOOD.penalised(np.ones((2, 2)), -1.0), "coefficient must be finite and at least 0"),
        (lambda: expected_return(GOOD, np.ones((2, 2))), "policy must be distributions"),
        (lambda: expected_return(GOOD, np.ones((2, 3)) / 3), "policy has shape"),
        (lambda: truncated_return(GOOD, np.full((2, 2), 0.5), -1), "horizon must be at least 0"),
        (lambda: deterministic_policies(30, 2), r"2\^30 policies are too many"),
        (lambda: check_model(GOOD, GOOD.ending_in([1]), same_rewards=True), "a model with the MDP.s rewards"),
        (
            lambda: check_model(GOOD, FiniteMDP(GOOD.transitions, GOOD.rewards, GOOD.start, 0.9), same_rewards=False),
            "and its discount",
        ),
        (
            lambda: check_model(
                GOOD, FiniteMDP(GOOD.transitions, GOOD.rewards, GOOD.start[::-1], 0.5), same_rewards=False
            ),
            "distribution of initial states",
        ),
        (
            lambda: check_model(
                GOOD, FiniteMDP(np.ones((1, 2, 1)), np.ones((1, 2)), np.ones(1), 0.5), same_rewards=False
            ),
            r"the model has \(1, 2\) states and actions",
        ),
    ],
)
def test_what_is_no_mdp_is_refused_with_one_sentence(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_an_mdp_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="read-only"):
        GOOD.rewards[0, 0] = 5.0
