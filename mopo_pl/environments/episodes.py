"""Episodes of a policy in the real environment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from mopo_pl.environments.by_id import make_environment

GROUP = 25
"""Environments stepped together: enough for one batched policy call, few enough to waste little on finished ones."""


@dataclass(frozen=True)
class Episodes:
    """What episodes came to."""

    returns: np.ndarray
    """Undiscounted, float64 [n]."""
    lengths: np.ndarray
    """Steps, int64 [n]."""


def evaluate(
    act: Callable[[np.ndarray], np.ndarray],
    *,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    numbers: range,
    seed: int,
) -> Episodes:
    """Plays the episodes of these numbers, the i-th from seed + i, whichever others are stepped beside it.

    `act` takes observations [n, D] and gives actions [n, A] in the environment's units.
    """
    make = partial(make_environment, env_id, env_kwargs)
    groups = [_play(act, make, numbers[first : first + GROUP], seed) for first in range(0, len(numbers), GROUP)]
    return _joined(groups)


def interleave(shares: Sequence[Episodes]) -> Episodes:
    """The episodes 0, 1, … of which the i-th of n shares holds i, i + n, i + 2n, …"""
    episodes = _joined(shares)
    places = np.concatenate([i + len(shares) * np.arange(len(share.returns)) for i, share in enumerate(shares)])
    order = np.argsort(places)
    return Episodes(episodes.returns[order], episodes.lengths[order])


def _joined(groups: Sequence[Episodes]) -> Episodes:
    returns, lengths = [group.returns for group in groups], [group.lengths for group in groups]
    none = Episodes(np.zeros(0), np.zeros(0, dtype=np.int64))
    return Episodes(np.concatenate([none.returns, *returns]), np.concatenate([none.lengths, *lengths]))


def _play(
    act: Callable[[np.ndarray], np.ndarray], make: Callable[[], gymnasium.Env], numbers: range, seed: int
) -> Episodes:
    """One episode in each of a group of environments; what follows an episode's end is ignored."""
    environments = SyncVectorEnv([make] * len(numbers))
    try:
        observations, _ = environments.reset(seed=[seed + number for number in numbers])
        running = np.ones(len(numbers), dtype=bool)
        returns, lengths = np.zeros(len(numbers)), np.zeros(len(numbers), dtype=np.int64)
        while running.any():
            observations, rewards, terminal, truncated, _ = environments.step(act(observations))
            returns += np.where(running, rewards, 0.0)
            lengths += running
            running &= ~(terminal | truncated)
    finally:
        environments.close()
    return Episodes(returns, lengths)
