"""sup_π {η_M(π) - 2λε_u(π)}, the theorem's right side, approached from below.

η_M is taken over the occupancy of M and ε_u over that of M̂. A sum of the two is no return of any MDP, so that the best
policy may be stochastic, and neither enumeration nor dynamic programming is sure to find it. From above the supremum is
bounded by η_M̃(π̂): that is the theorem's proof.
"""

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.mdp import Array, FiniteMDP, check_coef, check_model
from mopo_pl.theory.policies import deterministic_policies
from mopo_pl.theory.returns import action_values, expected_return, state_occupancy

STEPS = 100
"""Of an ascent, at most."""
STARTS = 4
"""Deterministic policies that ascents start from, the best ones."""
STILL = 1e-9
"""A step that changes no probability by more is none."""


def pessimistic_return(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: ArrayLike) -> Array:
    """η_M(π) - 2λε_u(π) [...] of policies [..., S, A], for u [S, A] and λ = `coef`."""
    return expected_return(mdp, policies) - 2 * check_coef(coef) * expected_return(_paid_by(model, u), policies)


def gradient(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: Array) -> Array:
    """Its derivative by π(a|s) [..., S, A]: d_T(s) Q_M(s, a) - 2λ d_T̂(s) Q_u(s, a), with d the state occupancies."""
    uncertain = _paid_by(model, u)
    gain = state_occupancy(mdp, policies)[..., np.newaxis] * action_values(mdp, policies)
    risk = state_occupancy(model, policies)[..., np.newaxis] * action_values(uncertain, policies)
    return gain - 2 * coef * risk


def _paid_by(model: FiniteMDP, u: ArrayLike) -> FiniteMDP:
    """M̂ with u for a reward: its return is ε_u."""
    return model.with_rewards(model.checked_penalty(u))


def ascend(
    mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: Array, *, steps: int
) -> tuple[Array, Array]:
    """Projected gradient ascent from each of `policies` [n, S, A]: policies that are no worse, and their values [n].

    A step that would not improve is not taken, and halves the next; one that does doubles it. The ascent ends where no step
    moves any more, or after `steps` of them.
    """
    best, size = pessimistic_return(mdp, model, u, coef, policies), np.ones(len(policies))
    for _ in range(steps):
        moved = onto_simplex(policies + size[:, np.newaxis, np.newaxis] * gradient(mdp, model, u, coef, policies))
        if np.abs(moved - policies).max() < STILL:
            break
        reached = pessimistic_return(mdp, model, u, coef, moved)
        better = reached > best
        policies = np.where(better[:, np.newaxis, np.newaxis], moved, policies)
        best, size = np.where(better, reached, best), np.where(better, 2 * size, size / 2)
    return policies, best


def onto_simplex(rows: Array) -> Array:
    """The nearest distribution to each of rows [..., n] (Held, Wolfe and Crowder 1974): shift all, cut at 0."""
    falling = -np.sort(-rows, axis=-1)
    shifts = (np.cumsum(falling, -1) - 1) / np.arange(1, rows.shape[-1] + 1)
    kept = (falling > shifts).sum(-1, keepdims=True)
    cut = np.maximum(rows - np.take_along_axis(shifts, kept - 1, -1), 0.0)
    return cut / cut.sum(-1, keepdims=True)


def best_found(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float) -> tuple[Array, float, float]:
    """The best policy found [S, A], its value, and that of the best deterministic one.

    All deterministic policies are looked at; ascents start from the best of them and from the uniform policy. Raises
    ValueError where there are too many, or `model` is no M̂ of `mdp`.
    """
    check_model(mdp, model, same_rewards=False)
    every = deterministic_policies(mdp.states, mdp.actions)
    worth = pessimistic_return(mdp, model, u, coef, every)
    leading = every[np.argsort(-worth, kind="stable")[:STARTS]]
    uniform = np.full_like(every[:1], 1 / mdp.actions)
    policies, reached = ascend(mdp, model, u, coef, np.concatenate([leading, uniform]), steps=STEPS)
    winner = int(np.argmax(reached))
    return policies[winner], float(reached[winner]), float(worth.max())
