"""Approximation from below of sup_π {η_M(π) - 2λε_u(π)}, the right side of the theorem.

η_M is taken over the occupancy of M and ε_u over that of M̂. Their difference is not the return of any MDP, so that the
best policy may be stochastic, and neither enumeration nor dynamic programming is certain to find it. The supremum is
bounded from above by η_M̃(π̂), which is the theorem's proof.
"""

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.mdp import Array, FiniteMDP, check_coef, check_model
from mopo_pl.theory.policies import deterministic_policies
from mopo_pl.theory.returns import action_values, expected_return, state_occupancy

STEPS = 100
"""Maximum number of steps of a gradient ascent."""
STARTS = 4
"""Number of deterministic policies, the best ones, from which an ascent starts."""
STILL = 1e-9
"""An ascent stops when no probability changes by at least this value."""


def pessimistic_return(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: ArrayLike) -> Array:
    """Return η_M(π) - 2λε_u(π) [...] of policies [..., S, A], for u [S, A] and λ = `coef`."""
    return expected_return(mdp, policies) - 2 * check_coef(coef) * expected_return(_paid_by(model, u), policies)


def gradient(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: Array) -> Array:
    """Return the gradient of `pessimistic_return` with respect to π(a|s) [..., S, A].

    It is d_T(s) Q_M(s, a) - 2λ d_T̂(s) Q_u(s, a), where d are the state occupancies.
    """
    uncertain = _paid_by(model, u)
    gain = state_occupancy(mdp, policies)[..., np.newaxis] * action_values(mdp, policies)
    risk = state_occupancy(model, policies)[..., np.newaxis] * action_values(uncertain, policies)
    return gain - 2 * coef * risk


def _paid_by(model: FiniteMDP, u: ArrayLike) -> FiniteMDP:
    """Return M̂ with u as reward, so that its return is ε_u."""
    return model.with_rewards(model.checked_penalty(u))


def ascend(
    mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: Array, *, steps: int
) -> tuple[Array, Array]:
    """Make a projected gradient ascent from `policies` [n, S, A]; return policies that are no worse, and their values [n].

    A step that improves the value is taken and doubles the next step size; any other is rejected and halves it. The
    ascent ends when no step changes a policy any more, or after `steps` steps.
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
    """Project each of `rows` [..., n] to the nearest distribution: shift all entries, clip at 0 (Held, Wolfe and Crowder 1974).

    >>> onto_simplex(np.array([0.5, 1.0, -1.0])).tolist()
    [0.25, 0.75, 0.0]
    """
    falling = -np.sort(-rows, axis=-1)
    shifts = (np.cumsum(falling, -1) - 1) / np.arange(1, rows.shape[-1] + 1)
    kept = (falling > shifts).sum(-1, keepdims=True)
    cut = np.maximum(rows - np.take_along_axis(shifts, kept - 1, -1), 0.0)
    return cut / cut.sum(-1, keepdims=True)


def best_found(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float) -> tuple[Array, float, float]:
    """Return the best policy found [S, A], its value, and the value of the best deterministic policy.

    All deterministic policies are evaluated; ascents start from the best of them and from the uniform policy. Raises
    ValueError if there are too many, or if `model` is not a model of `mdp` (`check_model`).
    """
    check_model(mdp, model, same_rewards=False)
    every = deterministic_policies(mdp.states, mdp.actions)
    worth = pessimistic_return(mdp, model, u, coef, every)
    leading = every[np.argsort(-worth, kind="stable")[:STARTS]]
    uniform = np.full_like(every[:1], 1 / mdp.actions)
    policies, reached = ascend(mdp, model, u, coef, np.concatenate([leading, uniform]), steps=STEPS)
    winner = int(np.argmax(reached))
    return policies[winner], float(reached[winner]), float(worth.max())
