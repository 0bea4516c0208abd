"""Comparison of an exported form with the policy: on states of the log, and on random states within and beyond its range."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mopo_pl.export.run_policy import digest_of
from mopo_pl.policy import Policy

LOGGED, RANDOM = 512, 512
"""Largest number of rows of each kind that are compared."""
KEPT = 64
"""Largest number of rows of each kind that are stored with the forms as test vectors."""


class Form(Protocol):
    """Interface of an exported policy that was opened again from its file."""

    def __call__(self, observation: np.ndarray, /) -> np.ndarray:
        """Return actions [B, A] for observations [B, D]."""
        ...

    def reset(self) -> None:
        """Begin B new episodes."""
        ...


@dataclass(frozen=True)
class Vectors:
    """Observations of B episodes of T steps, with the actions of the policy in them."""

    observations: np.ndarray
    """Observations [T, B, D] float32; T is 1 for a policy without a history."""
    actions: np.ndarray
    """Actions [T, B, A] float32."""
    logged: int
    """Number of states of the log among the B·T rows."""

    @classmethod
    def of(cls, policy: Policy, logged: np.ndarray | None, *, each: tuple[int, int], seed: int = 0) -> "Vectors":
        """Make vectors with the actions of `policy` on logged and random states.

        `logged` contains the observations of the log [N, D], or None where it cannot be read. `each` is the largest number of logged and
        of random rows.
        """
        steps = 1 if policy.history == 1 else policy.history + 2
        kinds = [random_states(policy, rows=each[1], seed=seed)]
        if logged is not None:
            kinds.insert(0, logged[np.linspace(0, len(logged) - 1, min(each[0], len(logged))).astype(int)])
        kinds = [rows[: len(rows) // steps * steps] for rows in kinds]
        parts = [rows.reshape(-1, steps, rows.shape[-1]).swapaxes(0, 1) for rows in kinds]
        observations = np.ascontiguousarray(np.concatenate(parts, 1), np.float32)
        return cls(observations, play(policy, observations), len(kinds[0]) if logged is not None else 0)

    @property
    def rows(self) -> int:
        """Return the number of states that are compared."""
        return self.observations.shape[0] * self.observations.shape[1]

    def plain(self) -> dict[str, np.ndarray]:
        """Return the contents of `vectors.npz`."""
        return {"observations": self.observations, "actions": self.actions}

    def digest(self) -> str:
        """Return the SHA-256 of the vectors, as `run_policy.py --check` computes it."""
        return digest_of(self.plain())


def play(form: Form | Policy, observations: np.ndarray) -> np.ndarray:
    """Return the actions [T, B, A] in B episodes with observations [T, B, D]."""
    form.reset()
    actions = np.stack([form(rows) for rows in observations])
    form.reset()
    return actions


def largest_difference(form: Form, vectors: Vectors, policy: Policy) -> float:
    """Return the largest difference between the actions of a form and of the policy, in half ranges of an action; NaN counts as infinite."""
    half = (policy.action_high.double() - policy.action_low.double()).numpy() / 2
    found = np.abs(play(form, vectors.observations).astype(np.float64) - vectors.actions) / half
    return float(np.where(np.isnan(found), np.inf, found).max())


def random_states(policy: Policy, *, rows: int, seed: int) -> np.ndarray:
    """Draw observations [rows, D] uniformly from twice the log's range; where that is unknown, from mean ± 3 std of the scaling."""
    signals, scaling = policy.observations, policy.actor.normaliser
    if signals.low is not None and signals.high is not None:
        low, high = signals.low.astype(np.float64), signals.high.astype(np.float64)
    else:
        mean, std = (t.double().numpy()[: policy.obs_dim] for t in (scaling.mean, scaling.divisor))
        low, high = mean - 1.5 * std, mean + 1.5 * std
    margin = (high - low) / 2
    return np.random.default_rng(seed).uniform(low - margin, high + margin, (rows, policy.obs_dim)).astype(np.float32)
