"""Random MDPs, wrong models and policies to try the statements on."""

import numpy as np
from numpy.random import Generator

from mopo_pl.theory.mdp import Array, FiniteMDP

CONCENTRATIONS = (0.05, 0.3, 1.0, 5.0)
"""Of Dirichlet draws: from nearly deterministic to nearly uniform."""


def draw_distributions(rng: Generator, *shape: int) -> Array:
    """Distributions over the last axis of `shape`, of one random sharpness; a tenth of the draws are deterministic."""
    if rng.random() < 0.1:
        return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
    rows = rng.gamma(rng.choice(CONCENTRATIONS), size=shape) + 1e-12
    return rows / rows.sum(-1, keepdims=True)


def draw_mdp(rng: Generator, states: int, actions: int, discount: float) -> FiniteMDP:
    """An MDP with rewards of either sign and of any size between 0.01 and 100; a third of the draws have a terminal state."""
    low, size = rng.uniform(-1, 0.5), 10 ** rng.uniform(-2, 2)
    mdp = FiniteMDP(
        transitions=draw_distributions(rng, states, actions, states),
        rewards=size * rng.uniform(low, 1.0, (states, actions)),
        start=draw_distributions(rng, states),
        discount=discount,
    )
    return mdp.ending_in([states - 1]) if rng.random() < 1 / 3 else mdp


def draw_model(rng: Generator, mdp: FiniteMDP) -> FiniteMDP:
    """An M̂ of any quality: unrelated dynamics, or a mixture with the true ones that weighs each (s, a) differently."""
    wrong = draw_distributions(rng, *mdp.transitions.shape)
    weight = rng.choice([0.01, 0.1, 0.5, 1.0]) * rng.random((mdp.states, mdp.actions, 1))
    if rng.random() < 0.5:
        return mdp.with_transitions(wrong)
    return mdp.with_transitions((1 - weight) * mdp.transitions + weight * wrong)


def draw_policies(rng: Generator, mdp: FiniteMDP, count: int) -> Array:
    """Stochastic and deterministic policies [count, S, A]."""
    return np.stack([draw_distributions(rng, mdp.states, mdp.actions) for _ in range(count)])


def draw_positions(rng: Generator, states: int) -> Array:
    """Places on a line in no order [S], at least 0.1 apart."""
    return rng.permutation(np.cumsum(0.1 + rng.exponential(size=states)))


def draw_logged(rng: Generator, states: int, actions: int, discount: float) -> tuple[FiniteMDP, FiniteMDP, Array]:
    """M, M̂ and π^B as after learning from a log: rewards in [0, 1], the model the more wrong the rarer the action.

    T̂(s, a) = (1 - w)·T(s, a) + w·noise with w = (1 - π^B(a|s))³.
    """
    mdp = FiniteMDP(
        transitions=rng.dirichlet(np.ones(states), (states, actions)),
        rewards=rng.random((states, actions)),
        start=np.full(states, 1 / states),
        discount=discount,
    )
    behaviour = rng.dirichlet(np.full(actions, 0.5), states)
    weight = (1 - behaviour[..., np.newaxis]) ** 3
    noise = rng.dirichlet(np.full(states, 0.2), (states, actions))
    return mdp, mdp.with_transitions((1 - weight) * mdp.transitions + weight * noise), behaviour
