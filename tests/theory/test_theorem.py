"""The theorem by brute force, and its supremum, whose best policy may be stochastic."""

import numpy as np
import pytest
import slow_derivations
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Problem, problems

from mopo_pl.theory import statements
from mopo_pl.theory.distances import TotalVariation, model_distances
from mopo_pl.theory.examples import crossroads
from mopo_pl.theory.policies import deterministic_policies, grid_policies, maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.setting import least_constant
from mopo_pl.theory.supremum import ascend, best_found, gradient, onto_simplex, pessimistic_return


@given(problem=problems(states=3, actions=2, discounts=st.floats(0.0, 0.9)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_theorem_by_brute_force_over_policies(problem: Problem) -> None:
    mdp, model, u, coef = problem.mdp, problem.model, problem.u, problem.coef
    more = list(problem.policies()[:3])
    candidates = np.stack([*deterministic_policies(mdp.states, mdp.actions), *more])
    sides = statements.theorem(mdp, model, u, coef, candidates)
    left, right = slow_derivations.theorem(mdp, np.asarray(model.transitions), u, coef, more)
    scale = max(1.0, abs(left), abs(right))
    assert sides.right == pytest.approx(right, abs=1e-8 * scale)
    assert sides.holds()
    # Of policies that M̃ cannot tell apart either may win: the theorem speaks of each.
    penalised = model.penalised(u, coef)
    earned = expected_return(penalised, deterministic_policies(mdp.states, mdp.actions))
    if np.isclose(earned, earned.max()).sum() == 1:
        assert sides.left == pytest.approx(left, abs=1e-8 * scale)


@given(problem=problems(states=3, actions=2))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_supremum_over_a_grid_of_stochastic_policies_and_by_ascent_stays_below(problem: Problem) -> None:
    mdp, model, u, coef = problem.mdp, problem.model, problem.u, problem.coef
    grid = grid_policies(mdp.states, mdp.actions, 10)
    worth = pessimistic_return(mdp, model, u, coef, grid)
    assert statements.theorem(mdp, model, u, coef, grid).holds()
    best, reached, deterministic = best_found(mdp, model, u, coef)
    scale = max(1.0, abs(reached))
    assert statements.theorem(mdp, model, u, coef, best[np.newaxis]).holds()
    assert reached >= deterministic - 1e-9 * scale
    assert reached >= worth.max() - 1e-3 * scale  # an ascent may end on a lesser peak
    penalised = model.penalised(u, coef)
    assert reached <= float(expected_return(penalised, maximiser(penalised))) + 1e-9 * scale


def test_at_the_crossroads_the_supremum_is_at_a_stochastic_policy() -> None:
    """By the closed form of the example, beside the policy gradient's ascent and the grid."""
    example = crossroads()
    mdp, model, wrong, gamma = example.mdp, example.model, 0.35, 0.9
    u = model_distances(mdp.transitions, model.transitions, TotalVariation())
    c = least_constant(mdp, TotalVariation())
    assert c == pytest.approx(10.0)
    going = np.linspace(0, 1, 10_001)
    x = gamma * going / (1 - gamma)
    closed = 10 * x / (1 + x) - 10 * 2 * wrong * x / (1 + x * (1 - wrong))
    policies = np.stack([np.stack([1 - going, going], -1), np.tile([1.0, 0.0], (len(going), 1))], 1)
    np.testing.assert_allclose(pessimistic_return(mdp, model, u, gamma * c, policies), closed, atol=1e-9)
    best, reached, deterministic = best_found(mdp, model, u, gamma * c)
    assert deterministic == pytest.approx(0.0, abs=1e-9)
    assert reached == pytest.approx(closed.max(), abs=1e-6)
    assert best[0, 1] == pytest.approx(going[closed.argmax()], abs=1e-3)
    assert 0.75 < reached < 0.77
    assert statements.theorem(mdp, model, u, gamma * c, policies).holds()


@given(problem=problems(states=3, actions=3, discounts=st.floats(0.0, 0.9)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_gradient_is_that_of_small_differences(problem: Problem) -> None:
    """Along directions that keep the rows' sums, so that one stays among policies."""
    mdp, model, u, coef = problem.mdp, problem.model, problem.u, problem.coef
    policy = 0.5 * problem.policies()[0] + 0.5 / mdp.actions
    along = problem.rng.standard_normal(policy.shape)
    along -= along.mean(-1, keepdims=True)
    step = 1e-6 / max(1.0, float(np.abs(along).max()))
    higher, lower = (pessimistic_return(mdp, model, u, coef, policy + s * step * along) for s in (1, -1))
    slope = float((gradient(mdp, model, u, coef, policy) * along).sum())
    size = max(1.0, float(np.abs(higher)), abs(slope))
    assert slope == pytest.approx(float(higher - lower) / (2 * step), abs=1e-3 * size)


@given(rows=st.integers(1, 4), actions=st.integers(1, 5), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_projection_is_a_distribution_and_none_tried_is_nearer(rows: int, actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = 3 * rng.standard_normal((rows, actions))
    nearest = onto_simplex(points)
    np.testing.assert_allclose(nearest.sum(-1), 1.0)
    assert (nearest >= 0).all()
    others = rng.dirichlet(np.ones(actions), (50, rows))
    assert (np.linalg.norm(others - points, axis=-1) >= np.linalg.norm(nearest - points, axis=-1) - 1e-9).all()
    np.testing.assert_allclose(onto_simplex(nearest), nearest, atol=1e-12)


@given(problem=problems())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_an_ascent_never_descends(problem: Problem) -> None:
    mdp, model, u, coef = problem.mdp, problem.model, problem.u, problem.coef
    policies = problem.policies()
    reached, worth = ascend(mdp, model, u, coef, policies, steps=5)
    before = pessimistic_return(mdp, model, u, coef, policies)
    assert (worth >= before).all()
    np.testing.assert_allclose(worth, pessimistic_return(mdp, model, u, coef, reached))
