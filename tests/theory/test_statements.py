"""Every statement on random MDPs with wrong models, where it must hold, where it is tight, where it breaks."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import slow_derivations
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Problem, problems

from mopo_pl.theory import statements
from mopo_pl.theory.distances import TotalVariation, model_distances
from mopo_pl.theory.examples import (
    Example,
    chain_where_leaving_does_not,
    chain_where_leaving_pays,
    draw_mdp,
    draw_model,
    draw_policies,
    fork,
)
from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.policies import deterministic_policies, maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.setting import Setting, constant_from_rewards, least_constant
from mopo_pl.theory.statements import Equality, Inequality
from mopo_pl.theory.supremum import best_found

SMALL = {"states": 3, "actions": 2, "discounts": st.floats(0.0, 0.9)}


def of_policy(setting: Setting, policy: Array) -> list[Equality | Inequality]:
    """What holds for any one policy, taken for the log's too."""
    mdp, model, u, coef = setting.mdp, setting.model, setting.u, setting.coef
    behaviour = statements.behaviour_consequence(mdp, model, u, coef, policy)
    return [*statements.about_policy(setting, policy), behaviour]


# They hold ------------------------------------------------------------------------------------------------------------


@given(problem=problems())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_statement_holds_for_every_policy_with_an_admissible_u_and_one_c(problem: Problem) -> None:
    policies = problem.policies()
    assert statements.admissible(problem.mdp, problem.model, problem.u, problem.distance).holds()
    for policy in policies:
        for sides in of_policy(problem, policy):
            assert sides.holds(1e-9), sides
    theorem = statements.theorem(problem.mdp, problem.model, problem.u, problem.coef, policies)
    assert theorem.holds(1e-9), theorem


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99])
def test_the_lemma_is_an_equality_to_a_billionth_at_the_ends_of_gamma(discount: float) -> None:
    worst, rng = 0.0, np.random.default_rng(0)
    for _ in range(100):
        mdp = draw_mdp(rng, int(rng.integers(1, 9)), int(rng.integers(1, 5)), discount)
        model = draw_model(rng, mdp)
        for policy in draw_policies(rng, mdp, 3):
            worst = max(worst, statements.lemma_4_1(mdp, model, policy).residual)
    assert worst <= 1e-9


@given(problem=problems(**SMALL))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_both_sides_of_each_statement_are_what_their_definitions_say(problem: Problem) -> None:
    """Nothing here is shared with what is tested: sums over powers, occupancies by iteration, loops."""
    mdp, model, u, coef = problem.mdp, problem.model, problem.u, problem.coef
    policy = problem.policies()[0]
    true, imagined = slow_derivations.expected_return(mdp, policy), slow_derivations.expected_return(model, policy)
    chain, mean = slow_derivations.chain(mdp, policy), (policy * mdp.rewards).sum(-1)
    value = sum(mdp.discount**t * np.linalg.matrix_power(chain, t) @ mean for t in range(slow_derivations.horizon(mdp)))
    gap = np.array(
        [
            [(t_hat - t) @ value for t_hat, t in zip(*rows, strict=True)]
            for rows in zip(model.transitions, mdp.transitions, strict=True)
        ]
    )
    rho = slow_derivations.occupancy(model, policy)
    epsilon = float((rho * u).sum())
    expected = {
        "Lemma 4.1": (imagined - true, mdp.discount * float((rho * gap).sum())),
        "Corollary, =": (true, float((rho * (mdp.rewards - mdp.discount * gap)).sum())),
        "Corollary, ≥": (true, float((rho * (mdp.rewards - mdp.discount * np.abs(gap))).sum())),
        "(7), =": (float((rho * (mdp.rewards - coef * u)).sum()),) * 2,
        "(7), ≥": (true, imagined - coef * epsilon),
        "Two-sided": (coef * epsilon, abs(imagined - true)),
    }
    got = {sides.name: (sides.left, sides.right) for sides in of_policy(problem, policy)}
    scale = max(1.0, abs(true), abs(imagined), coef * epsilon)
    for name, sides in expected.items():
        assert got[name] == pytest.approx(sides, abs=1e-8 * scale), name


@given(problem=problems())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_with_a_learned_reward_the_lemma_gains_its_error_and_the_bounds_ask_for_it(problem: Problem) -> None:
    mdp, policies = problem.mdp, problem.policies()
    wrong = mdp.rewards + problem.rng.standard_normal(mdp.rewards.shape)
    learned = problem.model.with_rewards(wrong)
    needed = statements.required_penalty(mdp, learned, problem.distance, problem.c)
    for policy in policies:
        assert statements.lemma_4_1_learned_reward(mdp, learned, policy).holds(1e-9)
        assert statements.inequality_7(mdp, learned, needed, 1.0, policy).holds(1e-9)
        assert statements.two_sided_bound(mdp, learned, needed, 1.0, policy).holds(1e-9)
    assert statements.theorem(mdp, learned, needed, 1.0, policies).holds(1e-9)
    known = statements.required_penalty(mdp, problem.model, problem.distance, problem.c)
    distances = model_distances(mdp.transitions, problem.model.transitions, problem.distance)
    np.testing.assert_allclose(known, problem.coef * distances, atol=1e-9 * max(1.0, problem.coef))


# They are tight -------------------------------------------------------------------------------------------------------


def test_on_the_fork_every_bound_is_attained_with_the_posts_constant() -> None:
    example = fork()
    setting = Setting.tightest(example.mdp, example.model, TotalVariation())
    winner = maximiser(setting.penalised)
    assert setting.c == constant_from_rewards(example.mdp, TotalVariation()) == 2.0
    assert (setting.coef, winner.argmax(-1)[0]) == (1.0, 0)
    for sides in statements.about_policy(setting, winner):
        attained = (0.5, 0.5) if sides.name == "(6)" else (0.25, 0.25)
        assert (sides.left, sides.right) == attained, sides
    arguments = setting.mdp, setting.model, setting.u, setting.coef
    for sides in (
        statements.behaviour_consequence(*arguments, example.behaviour),
        statements.theorem(*arguments, deterministic_policies(3, 2)),
    ):
        assert (sides.left, sides.right) == (0.25, 0.25), sides
    assert best_found(*arguments)[1] == pytest.approx(0.25)
    assert float(expected_return(setting.mdp, example.behaviour)) == 0.75


def test_on_the_fork_no_smaller_coefficient_would_do() -> None:
    """The 2 of the theorem, and λ = γc, can not be made smaller."""
    example = fork()
    u = model_distances(example.mdp.transitions, example.model.transitions, TotalVariation())
    winner = maximiser(example.model.penalised(u, 1.0))
    assert not statements.inequality_7(example.mdp, example.model, u, 0.999, winner).holds()
    assert not statements.two_sided_bound(example.mdp, example.model, u, 0.999, winner).holds()
    left = statements.theorem(example.mdp, example.model, u, 1.0, example.behaviour[np.newaxis]).left
    risk = statements.epsilon_u(example.model, u, example.behaviour)
    assert left < 0.75 - 1.999 * 1.0 * risk


# They break -----------------------------------------------------------------------------------------------------------


def spoilt(seed: int, spoil: Callable[[Array], Array]) -> Iterator[Inequality]:
    """(7) and the theorem with the least valid c and a u that is too small somewhere."""
    rng, distance = np.random.default_rng(seed), TotalVariation()
    mdp = draw_mdp(rng, int(rng.integers(2, 4)), 2, 0.9)
    model = draw_model(rng, mdp)
    error = model_distances(mdp.transitions, model.transitions, distance)
    u, coef = spoil(error), mdp.discount * least_constant(mdp, distance)
    if not statements.admissible(mdp, model, u, distance).holds():
        yield statements.inequality_7(mdp, model, u, coef, maximiser(model.penalised(u, coef)))
        policies = np.stack([*draw_policies(rng, mdp, 3), maximiser(mdp)])
        yield statements.theorem(mdp, model, u, coef, policies)


SPOIL: dict[str, Callable[[Array], Array]] = {
    "half": lambda error: error / 2,
    "blind where the model errs most": lambda error: np.where(error == error.max(), 0.0, error),
    "none": np.zeros_like,
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("half", "(7), ≥"), ("blind where the model errs most", "(7), ≥"), ("none", "(7), ≥"), ("none", "Theorem")],
)
def test_with_an_inadmissible_u_a_counterexample_is_found(kind: str, name: str) -> None:
    failing = [
        (seed, sides)
        for seed in range(150)
        for sides in spoilt(seed, SPOIL[kind])
        if sides.name == name and not sides.holds(1e-3)
    ]
    assert failing
    seed, sides = min(failing, key=lambda found: found[1].scaled_slack)
    print(f"{name} with u {kind}: {sides.left:.3f} is not >= {sides.right:.3f} (seed {seed}; {len(failing)} of 150)")


@pytest.mark.parametrize(
    ("example", "falls"), [(chain_where_leaving_does_not(), True), (chain_where_leaving_pays(), False)]
)
def test_without_a_penalty_the_optimist_falls_and_with_an_admissible_one_never_below_the_bound(
    example: Example, falls: bool
) -> None:
    mdp, model, behaviour = example.mdp, example.model, example.behaviour
    u = model_distances(mdp.transitions, model.transitions, TotalVariation())
    coef = mdp.discount * least_constant(mdp, TotalVariation())
    logged = float(expected_return(mdp, behaviour))
    naive, cautious = (float(expected_return(mdp, maximiser(model.penalised(u, chosen)))) for chosen in (0.0, coef))
    assert (naive < logged) is falls
    assert cautious > logged
    assert statements.behaviour_consequence(mdp, model, u, coef, behaviour).holds()
    assert statements.behaviour_consequence(mdp, model, 0 * u, coef, behaviour).holds() is not falls


def test_on_the_chains_the_model_errs_little_on_the_data_and_off_them_as_the_figure_says() -> None:
    for example, off in ((chain_where_leaving_pays(), 0.05), (chain_where_leaving_does_not(), 0.8)):
        u = model_distances(example.mdp.transitions, example.model.transitions, TotalVariation())
        expected = np.zeros((8, 2))
        expected[1:3, 0] = expected[:2, 1] = 0.01  # state 0 cannot be left to the left: nothing to be wrong about
        expected[2:6, 1] = off
        np.testing.assert_allclose(u, expected, atol=1e-12)
        logged = example.behaviour[:3] > 0
        assert u[:3][logged].max() == pytest.approx(0.01)
        assert statements.epsilon_u(example.model, u, example.behaviour) < 0.1


# What they refuse -----------------------------------------------------------------------------------------------------


def test_a_model_with_other_rewards_is_not_the_lemmas() -> None:
    example = fork()
    other = example.model.with_rewards(example.model.rewards + 1)
    later = FiniteMDP(example.mdp.transitions, example.mdp.rewards, np.eye(3)[1], example.mdp.discount)
    with pytest.raises(ValueError, match="needs a model with the MDP's rewards"):
        statements.lemma_4_1(example.mdp, other, example.behaviour)
    with pytest.raises(ValueError, match="initial states"):
        statements.two_sided_bound(example.mdp, later, np.zeros((3, 2)), 1.0, example.behaviour)


def test_a_side_that_is_too_small_does_not_hold() -> None:
    assert not Inequality("", "", 1.0, 1.0 + 1e-6).holds()
    assert Inequality("", "", 1.0, 1.0 + 1e-12).holds()
    assert Inequality("", "", 100.0, 101.0).scaled_slack == pytest.approx(-1 / 101)
    assert not Equality("", "", 1.0, 1.1).holds()
    assert Equality("", "", 100.0, 101.0, scale=100.0).residual == pytest.approx(0.01)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(problems(), st.floats(0, 1))
def test_gain_is_bought_by_risk(problem: Problem, share: float) -> None:
    """The theorem's second half at every δ between the least and the largest ε_u, over all deterministic policies."""
    setting = problem
    policies = deterministic_policies(setting.mdp.states, setting.mdp.actions)
    risks = [statements.epsilon_u(setting.model, setting.u, policy) for policy in policies]
    delta = min(risks) + share * (max(risks) - min(risks))
    sides = statements.gain_and_risk(
        setting.mdp, setting.model, setting.u, setting.coef, policies, delta * (1 + 1e-12) + 1e-12
    )
    assert sides.holds()
    least = min(risks)
    if least > 1e-6:
        with pytest.raises(ValueError, match="no policy has ε_u"):
            statements.gain_and_risk(setting.mdp, setting.model, setting.u, setting.coef, policies, least / 2)
