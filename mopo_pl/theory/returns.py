"""Values, returns and occupancies of policies, by solving linear equations; nothing is sampled or iterated.

Policies may be batched [..., S, A]; results keep the leading shape.
"""

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.mdp import Array, FiniteMDP, checked


def induced(mdp: FiniteMDP, policies: ArrayLike) -> tuple[Array, Array]:
    """Return the Markov chain of a policy: P^π(s'|s) = Σ_a π(a|s) T(s'|s, a) [..., S, S] and r^π(s) [..., S]."""
    table = mdp.checked_policies(policies)
    return np.einsum("...sa,sat->...st", table, mdp.transitions), (table * mdp.rewards).sum(-1)


def values(mdp: FiniteMDP, policies: ArrayLike) -> Array:
    """Return V^π = (I - γP^π)⁻¹ r^π [..., S], the expected discounted return from each state."""
    chain, rewards = induced(mdp, policies)
    return _solved(np.eye(mdp.states) - mdp.discount * chain, rewards)


def action_values(mdp: FiniteMDP, policies: ArrayLike) -> Array:
    """Return Q^π(s, a) = r(s, a) + γ Σ_s' T(s'|s, a) V^π(s') [..., S, A]."""
    return mdp.rewards + mdp.discount * np.einsum("sat,...t->...sa", mdp.transitions, values(mdp, policies))


def expected_return(mdp: FiniteMDP, policies: ArrayLike) -> Array:
    """Return η_M(π) = E[Σ_t γᵗ r(s_t, a_t)] = μ·V^π [...].

    >>> chain = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])  # state 0 leads to state 1, which pays 1 at each step
    >>> mdp = FiniteMDP(chain, np.array([[0.0], [1.0]]), np.array([1.0, 0.0]), 0.5)
    >>> float(expected_return(mdp, np.ones((2, 1))))
    1.0
    """
    return values(mdp, policies) @ mdp.start


def state_occupancy(mdp: FiniteMDP, policies: ArrayLike) -> Array:
    """Return Σ_t γᵗ P(s_t = s) = μ (I - γP^π)⁻¹ [..., S]."""
    chain, _ = induced(mdp, policies)
    transposed = np.swapaxes(np.eye(mdp.states) - mdp.discount * chain, -1, -2)
    return _solved(transposed, mdp.start)


def _solved(matrices: Array, right: Array) -> Array:
    """Return the solution x [..., S] of matrices [..., S, S] times x = right [..., S]."""
    return np.linalg.solve(matrices, right[..., np.newaxis])[..., 0].astype(np.float64)


def occupancy(mdp: FiniteMDP, policies: ArrayLike) -> Array:
    """Return ρ^π_T(s, a) = π(a|s) Σ_t γᵗ P(s_t = s) [..., S, A]. It is *not* normalised: its sum is 1/(1 - γ)."""
    return state_occupancy(mdp, policies)[..., np.newaxis] * mdp.checked_policies(policies)


def occupancy_sum(mdp: FiniteMDP, policies: ArrayLike, function: ArrayLike) -> Array:
    """Return Ē_{(s,a)~ρ^π_T}[f] = Σ_sa ρ^π_T(s, a) f(s, a) [...] for f [S, A]. The bar marks that ρ is not normalised."""
    return (occupancy(mdp, policies) * checked("function", function, mdp.rewards.shape)).sum((-1, -2))


def truncated_return(mdp: FiniteMDP, policies: ArrayLike, horizon: int) -> Array:
    """Return Σ_{t<h} γᵗ μ(P^π)ᵗ r^π [...], the return of the first h = `horizon` steps. Raises ValueError for h < 0.

    The result differs from η by at most γʰ max|r|/(1 - γ).
    """
    if horizon < 0:
        raise ValueError(f"horizon must be at least 0, not {horizon}")
    chain, rewards = induced(mdp, policies)
    total = np.zeros_like(rewards)
    for _ in range(horizon):
        total = rewards + mdp.discount * (chain @ total[..., np.newaxis])[..., 0]
    return total @ mdp.start
