"""Policies to compare, and the best one, found by looking at all."""

import itertools
import math

import numpy as np

from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.returns import expected_return

MOST_POLICIES = 20_000
"""More are not enumerated: they would take long and much memory."""

SAME = 1e-12
"""Returns that differ by less, relative to their size, are equal but for rounding."""


def deterministic_policies(states: int, actions: int) -> Array:
    """All Aˢ deterministic policies [Aˢ, S, A]; raises ValueError for more than MOST_POLICIES."""
    return product_policies(states, np.eye(actions))


def grid_policies(states: int, actions: int, divisions: int) -> Array:
    """All stochastic policies whose probabilities are multiples of 1/divisions [n, S, A]; raises ValueError as above."""
    counts = [c for c in itertools.product(range(divisions + 1), repeat=actions) if sum(c) == divisions]
    return product_policies(states, np.array(counts, dtype=np.float64) / divisions)


def product_policies(states: int, choices: Array) -> Array:
    """Every way to give each state one of the action distributions `choices` [n, A]: [nˢ, S, A]."""
    check_enumerable(states, len(choices))
    return choices[np.indices((len(choices),) * states).reshape(states, -1).T]


def check_enumerable(states: int, choices: int) -> None:
    """Raises ValueError where `choices` in each state make more than MOST_POLICIES policies."""
    if states * math.log(choices) > math.log(MOST_POLICIES):
        raise ValueError(
            f"{choices}^{states} policies are too many to look at all (at most {MOST_POLICIES}): take fewer states or actions"
        )


def maximiser(mdp: FiniteMDP) -> Array:
    """The policy of the largest return [S, A], the first of those that are equal; with M̃ for `mdp` it is π̂.

    Some deterministic policy is optimal in any finite MDP, so that enumerating them is enough. Raises ValueError for more
    than MOST_POLICIES of them.
    """
    policies = deterministic_policies(mdp.states, mdp.actions)
    returns = expected_return(mdp, policies)
    # Policies that differ only where they never come differ by rounding: the first of them, not a random one.
    return policies[np.argmax(returns >= returns.max() - SAME * max(1.0, abs(returns.max())))]
