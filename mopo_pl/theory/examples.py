"""Small MDPs: a fork, a crossroads, two chains with states outside the dataset, and random ones."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mopo_pl.theory.mdp import Array, FiniteMDP


@dataclass(frozen=True, eq=False)
class Example:
    """An MDP M, a model M̂ of it, and the behaviour policy that collected the dataset."""

    mdp: FiniteMDP
    model: FiniteMDP
    behaviour: Array
    """π^B [S, A]."""


def fork() -> Example:
    """Return an example on which every inequality is an equality, with u = total variation and λ = γ/(1 - γ).

    State 0 leads to state 2 with reward 1 at each step, or to state 1 with reward 0. Action 0 reaches state 2 with probability
    1/4 and action 1 with probability 3/4; in the model both probabilities are 1/2. Hence u = 1/4 and G = ±u/(1 - γ) for both
    actions, and both have the value 1/4 in the penalised model. π̂, the first of equal policies, takes action 0, whose value the
    model overestimates. The theorem's supremum is attained by action 1; it is the return of action 1 minus twice the model's error
    of this return. γ = 1/2, so that every number is exact.
    """
    fall, pay = np.array([[0, 0.75, 0.25], [0, 0.25, 0.75]]), np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    rest = np.broadcast_to(np.eye(3)[1:, np.newaxis], (2, 2, 3))
    mdp = FiniteMDP(np.concatenate([fall[np.newaxis], rest]), pay, np.eye(3)[0], 0.5)
    believed = np.broadcast_to([0, 0.5, 0.5], (1, 2, 3))
    return Example(mdp, mdp.with_transitions(np.concatenate([believed, rest])), np.eye(2)[[1, 1, 1]])


def crossroads() -> Example:
    """Return an example in which the best policy of the theorem's supremum is stochastic.

    Action 0 stays, action 1 leads to a state with reward 1 at each step. In M action 1 always succeeds; in the model it fails
    with probability δ = 0.35. If action 1 has probability t and x = γt/(1 - γ), then η_M = Vx/(1 + x) and, with λ = γV,
    2λε_u = V·2δx/(1 + x(1 - δ)), where V = 1/(1 - γ) is both the goal's value and c. In M a few attempts suffice, while
    in the model each further attempt is penalised. Always staying gives 0, t = 1 gives less, and a t between them gives
    more.
    """
    rest = np.broadcast_to([0.0, 1.0], (1, 2, 2))
    truth, believed = ([[[1.0, 0.0], [failing, 1.0 - failing]]] for failing in (0.0, 0.35))
    rewards = np.array([[0.0, 0.0], [1.0, 1.0]])
    mdp = FiniteMDP(np.concatenate([truth, rest]), rewards, np.array([1.0, 0.0]), 0.9)
    return Example(mdp, mdp.with_transitions(np.concatenate([believed, rest])), np.array([[0.9, 0.1], [0.9, 0.1]]))


LENGTH, LOGGED = 7, 3
"""Number of states of a chain without its pit, and number of those, from the left, that the dataset covers."""
KNOWN = 0.01
"""Error of the model's probabilities in states that the dataset covers."""


def chain_where_leaving_pays() -> Example:
    """Return a chain in which leaving the dataset pays.

    The reward at the far end can be reached, and the model's error outside of the dataset is small: a few more steps fail than it
    predicts.
    """
    return _chain(lost=0.05, fall=0.0)


def chain_where_leaving_does_not() -> Example:
    """Return a chain in which leaving the dataset does not pay.

    The model predicts that the far end can be reached, but in M most steps outside of the dataset end in the pit.
    """
    return _chain(lost=0.0, fall=0.8)


def _chain(*, lost: float, fall: float) -> Example:
    """Return a chain of LENGTH states and a pit that ends the episode, with actions left and right that fail with probability 1/10.

    The reward per step is 0.3 in state 0 and 1 in the last state of the chain. The dataset covers both actions in the first LOGGED
    states, except the step to the right from the last of them. From that state on, the probability that a step to the right fails
    is higher in M than in the model by `lost`, and the probability that it ends in the pit by `fall`. In the covered states, a step
    fails with a probability higher by KNOWN. Elsewhere the model is exact.
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
    """Return T [LENGTH + 1, 2, LENGTH + 1] for the probabilities [LENGTH, 2] of a successful step and of a step into the pit."""
    transitions = np.zeros((LENGTH + 1, 2, LENGTH + 1))
    for state in range(LENGTH):
        for action, reached in enumerate((max(state - 1, 0), min(state + 1, LENGTH - 1))):
            transitions[state, action, reached] += succeeds[state, action]
            transitions[state, action, LENGTH] += falls[state, action]
            transitions[state, action, state] += 1 - succeeds[state, action] - falls[state, action]
    transitions[LENGTH, :, LENGTH] = 1.0
    return transitions


CONCENTRATIONS = (0.05, 0.3, 1.0, 5.0)
"""Concentrations of Dirichlet draws, from nearly deterministic to nearly uniform."""


def draw_distributions(rng: Generator, *shape: int) -> Array:
    """Draw distributions over the last axis of `shape`, with one random concentration.

    A tenth of the draws are deterministic.
    """
    if rng.random() < 0.1:
        return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
    rows = rng.gamma(rng.choice(CONCENTRATIONS), size=shape) + 1e-12
    return rows / rows.sum(-1, keepdims=True)


def draw_mdp(rng: Generator, states: int, actions: int, discount: float) -> FiniteMDP:
    """Draw an MDP with rewards of either sign and of a size between 0.01 and 100.

    A third of the draws have a terminal state.
    """
    low, size = rng.uniform(-1, 0.5), 10 ** rng.uniform(-2, 2)
    mdp = FiniteMDP(
        transitions=draw_distributions(rng, states, actions, states),
        rewards=size * rng.uniform(low, 1.0, (states, actions)),
        start=draw_distributions(rng, states),
        discount=discount,
    )
    return mdp.ending_in([states - 1]) if rng.random() < 1 / 3 else mdp


def draw_model(rng: Generator, mdp: FiniteMDP) -> FiniteMDP:
    """Draw a model M̂: unrelated dynamics, or a mixture with the true ones with a random weight for each (s, a)."""
    wrong = draw_distributions(rng, *mdp.transitions.shape)
    weight = rng.choice([0.01, 0.1, 0.5, 1.0]) * rng.random((mdp.states, mdp.actions, 1))
    if rng.random() < 0.5:
        return mdp.with_transitions(wrong)
    return mdp.with_transitions((1 - weight) * mdp.transitions + weight * wrong)


def draw_policies(rng: Generator, mdp: FiniteMDP, count: int) -> Array:
    """Draw stochastic and deterministic policies [count, S, A]."""
    return np.stack([draw_distributions(rng, mdp.states, mdp.actions) for _ in range(count)])


def draw_positions(rng: Generator, states: int) -> Array:
    """Draw unsorted positions on a line [S], at least 0.1 apart."""
    return rng.permutation(np.cumsum(0.1 + rng.exponential(size=states)))


def draw_logged(rng: Generator, states: int, actions: int, discount: float) -> tuple[FiniteMDP, FiniteMDP, Array]:
    """Draw M with rewards in [0, 1], the behaviour policy π^B, and an M̂ as if it had been trained on a dataset of π^B.

    The less often π^B takes an action, the larger is the model's error: T̂(s, a) = (1 - w)·T(s, a) + w·noise with
    w = (1 - π^B(a|s))³. Returns M, M̂ and π^B.
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
