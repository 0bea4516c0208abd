"""Sets of policies, and the optimal policy, found by enumeration."""

import itertools
import math

import numpy as np

from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.returns import expected_return

MOST_POLICIES = 20_000
"""Maximum number of policies that are enumerated, for time and memory."""

SAME = 1e-12
"""Returns whose relative difference is smaller count as equal."""


def deterministic_policies(states: int, actions: int) -> Array:
    """Return all Aˢ deterministic policies [Aˢ, S, A]. Raises ValueError for more than MOST_POLICIES.

    >>> deterministic_policies(3, 2).shape
    (8, 3, 2)
    """
    return product_policies(states, np.eye(actions))


def grid_policies(states: int, actions: int, divisions: int) -> Array:
    """Return all stochastic policies whose probabilities are multiples of 1/divisions [n, S, A].

    Raises ValueError for more than MOST_POLICIES.
    """
    counts = [c for c in itertools.product(range(divisions + 1), repeat=actions) if sum(c) == divisions]
    return product_policies(states, np.array(counts, dtype=np.float64) / divisions)


def product_policies(states: int, choices: Array) -> Array:
    """Return all policies [nˢ, S, A] that use one of the action distributions `choices` [n, A] in each state."""
    check_enumerable(states, len(choices))
    return choices[np.indices((len(choices),) * states).reshape(states, -1).T]


def check_enumerable(states: int, choices: int) -> None:
    """Raise ValueError if `choices` per state make more than MOST_POLICIES policies."""
    if states * math.log(choices) > math.log(MOST_POLICIES):
        raise ValueError(
            f"{choices}^{states} policies are too many to enumerate (at most {MOST_POLICIES}): use fewer states or actions"
        )


def maximiser(mdp: FiniteMDP) -> Array:
    """Return the policy of maximum return [S, A], or the first of several with equal returns. For M̃ it is π̂.

    Every finite MDP has an optimal policy that is deterministic, so that enumerating those is enough. Raises ValueError
    for more than MOST_POLICIES of them.
    """
    policies = deterministic_policies(mdp.states, mdp.actions)
    returns = expected_return(mdp, policies)
    # Policies that differ only in states they never reach have equal returns up to rounding: take the first of them.
    return policies[np.argmax(returns >= returns.max() - SAME * max(1.0, abs(returns.max())))]
