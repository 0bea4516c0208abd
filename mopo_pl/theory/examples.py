"""MDPs small enough to follow by hand: a fork, a crossroads, and two chains that leave the data."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mopo_pl.theory.mdp import Array, FiniteMDP


@dataclass(frozen=True, eq=False)
class Example:
    """M, M̂, and the policy that made the log."""

    mdp: FiniteMDP
    model: FiniteMDP
    behaviour: Array
    """π^B [S, A]."""


def fork() -> Example:
    """Where every inequality is an equality, with u = total variation and λ = γ/(1 - γ).

    From the first state one comes to a state that pays 1 for ever or to one that pays nothing: by action 0 to the good one
    with probability 1/4, which the model takes for 1/2; by action 1 with 3/4, which it takes for 1/2. Hence u = 1/4 for
    both, G = ±u/(1 - γ), and the penalised model sees 1/4 for both: π̂, the first of equals, is the optimist's action
    0, and the theorem's supremum is at action 1, twice its error below its return. (γ = 1/2: every number is exact.)
    """
    fall, pay = np.array([[0, 0.75, 0.25], [0, 0.25, 0.75]]), np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    rest = np.broadcast_to(np.eye(3)[1:, np.newaxis], (2, 2, 3))
    mdp = FiniteMDP(np.concatenate([fall[np.newaxis], rest]), pay, np.eye(3)[0], 0.5)
    believed = np.broadcast_to([0, 0.5, 0.5], (1, 2, 3))
    return Example(mdp, mdp.with_transitions(np.concatenate([believed, rest])), np.eye(2)[[1, 1, 1]])


def crossroads() -> Example:
    """Where the best policy of the theorem's supremum is stochastic.

    Action 0 waits, action 1 goes where a step pays 1 for ever. Going succeeds, but the model believes that it fails with
    probability δ = 0.35. If one goes with probability t and x = γt/(1 - γ), then η_M = Vx/(1 + x) and, with λ = γV,
    2λε_u = V·2δx/(1 + x(1 - δ)), where V = 1/(1 - γ) is both the goal's value and c: a few attempts are enough in truth,
    while in the model every further attempt is charged. Waiting is worth 0, going always less, going sometimes more.
    """
    rest = np.broadcast_to([0.0, 1.0], (1, 2, 2))
    truth, believed = ([[[1.0, 0.0], [failing, 1.0 - failing]]] for failing in (0.0, 0.35))
    rewards = np.array([[0.0, 0.0], [1.0, 1.0]])
    mdp = FiniteMDP(np.concatenate([truth, rest]), rewards, np.array([1.0, 0.0]), 0.9)
    return Example(mdp, mdp.with_transitions(np.concatenate([believed, rest])), np.array([[0.9, 0.1], [0.9, 0.1]]))


LENGTH, LOGGED = 7, 3
"""States of a chain before its pit, and how many of them, from the left, the log covers."""
KNOWN = 0.01
"""What is left of the model's error where there are data."""


def chain_where_leaving_pays() -> Example:
    """The goal at the far end is real, and the model off the data a little wrong: steps are lost more often than it says."""
    return _chain(lost=0.05, fall=0.0)


def chain_where_leaving_does_not() -> Example:
    """The model believes in the way to the goal; in truth most steps off the data end in the pit."""
    return _chain(lost=0.0, fall=0.8)


def _chain(*, lost: float, fall: float) -> Example:
    """LENGTH states in a row, then a pit that ends the episode; actions left and right, which fail one time in ten.

    State 0 pays 0.3 a step, the last of the row 1. The log holds both actions in its states, but no step out of them. From
    its last state on, a step to the right in truth is `lost` (nothing moves) or ends in the pit (`fall`) with so much more
    probability than in the model; where there are data, a step is lost with KNOWN more; else the model is exact.
    """
    succeeds, falls = np.full((LENGTH, 2), 0.9), np.zeros((LENGTH, 2))
    believed = _row(succeeds, falls)
    edge, off_data = LOGGED - 1, slice(LOGGED - 1, LENGTH - 1)
    succeeds[:edge] -= KNOWN
    succeeds[edge, 0] -= KNOWN
    succeeds[off_data, 1] -= lost + fall
    falls[off_data, 1] = fall
    rewards = np.zeros((LENGTH + 1, 2))
    rewards[0], rewards[LENGTH - 1] = 0.3, 1.0
    start = np.r_[np.full(LOGGED, 1 / LOGGED), np.zeros(LENGTH + 1 - LOGGED)]
    behaviour = np.tile([0.7, 0.3], (LENGTH + 1, 1))
    behaviour[edge:] = [1.0, 0.0]
    mdp = FiniteMDP(_row(succeeds, falls), rewards, start, 0.9)
    return Example(mdp, mdp.with_transitions(believed), behaviour)


def _row(succeeds: Array, falls: Array) -> Array:
    """T [LENGTH + 1, 2, LENGTH + 1] of steps [LENGTH, 2] that succeed, end in the pit, or else leave one where one is."""
    transitions = np.zeros((LENGTH + 1, 2, LENGTH + 1))
    for state in range(LENGTH):
        for action, reached in enumerate((max(state - 1, 0), min(state + 1, LENGTH - 1))):
            transitions[state, action, reached] += succeeds[state, action]
            transitions[state, action, LENGTH] += falls[state, action]
            transitions[state, action, state] += 1 - succeeds[state, action] - falls[state, action]
    transitions[LENGTH, :, LENGTH] = 1.0
    return transitions


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
