"""`FiniteMDP`: a Markov decision process small enough to be solved exactly.

Shape letters in `theory`: S states, A actions; `...` is any leading shape, such as a batch of policies. All arrays are
float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
ROUNDING = 1e-9
"""Maximum deviation of a distribution's sum from 1."""


def checked(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return `values` as a read-only float64 array; raise ValueError unless it has `shape` and is finite."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, not {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    array.flags.writeable = False
    return array


def check_distributions(name: str, rows: Array) -> None:
    """Raise ValueError unless each of `rows` [..., n] is a probability distribution over n."""
    wrong = (rows < 0).any(-1) | (np.abs(rows.sum(-1) - 1) > ROUNDING)
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(
            f"{name} must be distributions, without negative entries and with sum 1: row {where} is {rows[where].tolist()}, "
            f"its sum {rows[where].sum():.12g} (normalise in float64)"
        )


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite Markov decision process M = (S, A, T, r, μ, γ).

    Raises ValueError for a wrong shape, rows that are not distributions, or γ outside [0, 1).

    Rewards are known and may be of either sign. Episodes are infinite: a terminal state is one that is never left and has
    reward 0 (`ending_in`), so that every return is the same as if the episode ended there.

    >>> mdp = FiniteMDP(
    ...     transitions=np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]),
    ...     rewards=np.array([[0.0, 0.0], [1.0, 1.0]]),
    ...     start=np.array([1.0, 0.0]),
    ...     discount=0.5,
    ... )
    >>> mdp.states, mdp.actions
    (2, 2)
    """

    transitions: Array
    """T(s'|s, a) [S, A, S]."""
    rewards: Array
    """r(s, a) [S, A], reward per step."""
    start: Array
    """μ [S], the distribution of the initial state."""
    discount: float
    """γ in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must lie in [0, 1), not be {self.discount}")
        shape = np.shape(self.rewards)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"rewards must be a table of states by actions, not of shape {shape}")
        states, actions = shape
        for name, wanted in (("rewards", shape), ("transitions", (states, actions, states)), ("start", (states,))):
            object.__setattr__(self, name, checked(name, getattr(self, name), wanted))
        check_distributions("transitions", self.transitions)
        check_distributions("start", self.start)

    @property
    def states(self) -> int:
        """S, the number of states."""
        return self.rewards.shape[0]

    @property
    def actions(self) -> int:
        """A, the number of actions."""
        return self.rewards.shape[1]

    def with_transitions(self, transitions: ArrayLike) -> "FiniteMDP":
        """Return M̂, with the same rewards, start and discount and with transitions T̂ [S, A, S]."""
        return replace(self, transitions=np.asarray(transitions, dtype=np.float64))

    def with_rewards(self, rewards: ArrayLike) -> "FiniteMDP":
        """Return the same MDP with other rewards [S, A]."""
        return replace(self, rewards=np.asarray(rewards, dtype=np.float64))

    def penalised(self, u: ArrayLike, coef: float) -> "FiniteMDP":
        """Return M̃ of this model M̂, with rewards r̃ = r - λu for u [S, A] and λ = `coef`.

        Raises ValueError if u or λ is negative.
        """
        return self.with_rewards(self.rewards - check_coef(coef) * self.checked_penalty(u))

    def ending_in(self, terminal: Sequence[int]) -> "FiniteMDP":
        """Return the same MDP with `terminal` states, which are never left and have reward 0."""
        transitions, rewards = self.transitions.copy(), self.rewards.copy()
        for state in terminal:
            transitions[state] = np.eye(self.states)[state]
            rewards[state] = 0.0
        return replace(self, transitions=transitions, rewards=rewards)

    def checked_penalty(self, u: ArrayLike) -> Array:
        """Return u as an array [S, A]; raise ValueError for another shape or a negative entry."""
        table = checked("u", u, self.rewards.shape)
        if (table < 0).any():
            raise ValueError("u must not be negative: it bounds a distance")
        return table

    def checked_policies(self, policies: ArrayLike) -> Array:
        """Return π(a|s) as an array [..., S, A].

        Raise ValueError for another shape or rows that are not distributions.
        """
        leading = np.shape(policies)[:-2]
        table = checked("policy", policies, (*leading, self.states, self.actions))
        check_distributions("policy", table)
        return table


def check_coef(coef: float) -> float:
    """Return λ or c; raise ValueError unless it is finite and at least 0."""
    if not 0 <= coef < np.inf:
        raise ValueError(f"a coefficient must be finite and at least 0, not {coef}")
    return coef


def check_model(mdp: FiniteMDP, model: FiniteMDP, *, same_rewards: bool) -> None:
    """Raise ValueError unless `model` has the states, actions, start and γ of `mdp`, and, with `same_rewards`, its rewards."""
    if model.rewards.shape != mdp.rewards.shape:
        raise ValueError(f"the model has {model.rewards.shape} states and actions, the MDP {mdp.rewards.shape}")
    if model.discount != mdp.discount or not np.array_equal(model.start, mdp.start):
        raise ValueError("the model must have the MDP's distribution of initial states and its discount")
    if same_rewards and not np.array_equal(model.rewards, mdp.rewards):
        raise ValueError(
            "Lemma 4.1 needs a model with the MDP's rewards; for other rewards use lemma_4_1_learned_reward"
        )
