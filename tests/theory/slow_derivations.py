"""The same quantities in loops, from their definitions: shares no code with `mopo_pl.theory` and solves nothing."""

import itertools
from collections.abc import Iterator

import numpy as np

from mopo_pl.theory.mdp import FiniteMDP


def horizon(mdp: FiniteMDP) -> int:
    """Steps after which γᵗ is below 1e-13 (1 where γ is 0)."""
    return 1 if mdp.discount == 0 else int(np.log(1e-13) / np.log(mdp.discount)) + 2


def chain(mdp: FiniteMDP, policy: np.ndarray) -> np.ndarray:
    """P^π [S, S], entry by entry."""
    return np.array(
        [
            [
                sum(policy[s, a] * mdp.transitions[s, a, after] for a in range(mdp.actions))
                for after in range(mdp.states)
            ]
            for s in range(mdp.states)
        ]
    )


def expected_return(mdp: FiniteMDP, policy: np.ndarray, steps: int | None = None) -> float:
    """Σ_t γᵗ μ(P^π)ᵗ r^π, power by power."""
    power, total, one_step = np.eye(mdp.states), 0.0, chain(mdp, policy)
    rewards = [sum(policy[s, a] * mdp.rewards[s, a] for a in range(mdp.actions)) for s in range(mdp.states)]
    for t in range(horizon(mdp) if steps is None else steps):
        total += mdp.discount**t * float(mdp.start @ power @ rewards)
        power = power @ one_step
    return total


def occupancy(mdp: FiniteMDP, policy: np.ndarray) -> np.ndarray:
    """Σ_t γᵗ P(s_t = s, a_t = a) [S, A], the distribution pushed forward step by step."""
    now, weight, total = list(mdp.start), 1.0, np.zeros(mdp.rewards.shape)
    for _ in range(horizon(mdp)):
        after = [0.0] * mdp.states
        for s, a in itertools.product(range(mdp.states), range(mdp.actions)):
            total[s, a] += weight * now[s] * policy[s, a]
            for t in range(mdp.states):
                after[t] += now[s] * policy[s, a] * mdp.transitions[s, a, t]
        now, weight = after, weight * mdp.discount
    return total


def optimal_values(mdp: FiniteMDP) -> np.ndarray:
    """V* [S] by value iteration."""
    best = np.zeros(mdp.states)
    for _ in range(horizon(mdp)):
        best = np.array(
            [
                max(
                    mdp.rewards[s, a]
                    + mdp.discount * sum(mdp.transitions[s, a, t] * best[t] for t in range(mdp.states))
                    for a in range(mdp.actions)
                )
                for s in range(mdp.states)
            ]
        )
    return best


def every_deterministic(mdp: FiniteMDP) -> Iterator[np.ndarray]:
    """Each deterministic policy [S, A]."""
    for choice in itertools.product(range(mdp.actions), repeat=mdp.states):
        yield np.array([[float(a == chosen) for a in range(mdp.actions)] for chosen in choice])


def theorem(
    mdp: FiniteMDP, transitions: np.ndarray, u: np.ndarray, coef: float, more: list[np.ndarray]
) -> tuple[float, float]:
    """Both sides of the theorem by brute force: the supremum over deterministic policies and `more`."""
    penalised = FiniteMDP(transitions, mdp.rewards - coef * u, mdp.start, mdp.discount)
    uncertain = FiniteMDP(transitions, u, mdp.start, mdp.discount)
    seen = [(expected_return(penalised, policy), expected_return(mdp, policy)) for policy in every_deterministic(mdp)]
    winner = max(seen)[1]
    values = [
        expected_return(mdp, policy) - 2 * coef * expected_return(uncertain, policy)
        for policy in (*every_deterministic(mdp), *more)
    ]
    return winner, max(values)
