"""Evaluation of a policy by episodes in the real environment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from mopo_pl.distributed.console import print_once
from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import ActionsNotFinite, InputError

MOST_STEPS = 10_000
"""Number of steps after which an episode is cut in an environment without a time limit."""
GROUP = 25
"""Number of environments stepped together.

It is large enough for efficient calls of the policy, and small enough that few environments are idle at the end.
"""


@dataclass(frozen=True)
class Episodes:
    """Returns and lengths of n episodes."""

    returns: np.ndarray
    """Undiscounted returns, float64 [n]."""
    lengths: np.ndarray
    """Numbers of environment steps, int64 [n]."""


def evaluate(
    act: Callable[[np.ndarray], np.ndarray],
    *,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    numbers: range,
    seed: int,
    before_step: Callable[[], None] = lambda: None,
) -> Episodes:
    """Run one episode for each number in `numbers`, resetting the environment of episode i with seed + i.

    The result of an episode does not depend on the other episodes stepped with it. An episode in which `act` returns NaN or inf
    ends there, with return NaN. In an environment without a time limit, episodes are cut after `MOST_STEPS`. Raises InputError if
    the environment cannot be created, or returns an observation or a reward that is not finite.

    Args:
        act: Maps observations [n, D] to actions [n, A] in the environment's units. If it has a method `reset`, as a Policy has,
            this is called before each group of episodes.
        env_id: Id of the environment, for `gymnasium.make`.
        env_kwargs: Keyword arguments of `gymnasium.make`.
        numbers: Numbers i of the episodes.
        seed: Seed of episode 0.
        before_step: Called before each step. An exception it raises ends the evaluation.

    """
    make = partial(make_environment, env_id, env_kwargs)
    groups = [
        _play(act, make, numbers[first : first + GROUP], seed, env_id, before_step)
        for first in range(0, len(numbers), GROUP)
    ]
    return _joined(groups)


def interleave(shares: Sequence[Episodes]) -> Episodes:
    """Merge shares of n ranks, where share i holds the episodes i, i + n, i + 2n, …, into the order 0, 1, 2, …

    >>> first = Episodes(np.array([10.0, 12.0]), np.array([5, 7]))
    >>> second = Episodes(np.array([11.0]), np.array([6]))
    >>> interleave([first, second]).returns.tolist()
    [10.0, 11.0, 12.0]
    """
    episodes = _joined(shares)
    numbers = np.concatenate([i + len(shares) * np.arange(len(share.returns)) for i, share in enumerate(shares)])
    order = np.argsort(numbers)
    return Episodes(episodes.returns[order], episodes.lengths[order])


def _joined(groups: Sequence[Episodes]) -> Episodes:
    """Concatenate groups of episodes. The list of groups may be empty."""
    returns, lengths = [group.returns for group in groups], [group.lengths for group in groups]
    none = Episodes(np.zeros(0), np.zeros(0, dtype=np.int64))
    return Episodes(np.concatenate([none.returns, *returns]), np.concatenate([none.lengths, *lengths]))


def _play(
    act: Callable[[np.ndarray], np.ndarray],
    make: Callable[[], gymnasium.Env],
    numbers: range,
    seed: int,
    env_id: str,
    before_step: Callable[[], None],
) -> Episodes:
    """Run one episode in each of `len(numbers)` environments. Steps after an episode's end do not count."""
    environments = SyncVectorEnv([make] * len(numbers))
    try:
        observations, _ = environments.reset(seed=[seed + number for number in numbers])
        if (begin := getattr(act, "reset", None)) is not None:
            begin()
        running = np.ones(len(numbers), dtype=bool)
        returns, lengths = np.zeros(len(numbers)), np.zeros(len(numbers), dtype=np.int64)
        most = None if all(map(_has_limit, environments.envs)) else MOST_STEPS
        while running.any():
            before_step()
            _require_finite("an observation", observations[running], env_id)
            actions = _acted(act, np.where(running[:, None], observations, 0.0))
            lost = np.asarray(~np.isfinite(actions).all(-1))
            returns[running & lost] = np.nan
            running &= ~lost
            observations, rewards, terminal, truncated, _ = environments.step(np.where(lost[:, None], 0.0, actions))
            _require_finite("a reward", rewards[running], env_id)
            returns += np.where(running, rewards, 0.0)
            lengths += running
            running &= ~(terminal | truncated)
            if most is not None and (running & (lengths >= most)).any():
                running &= lengths < most
                _say_cut(env_id)
    finally:
        environments.close()
    return Episodes(returns, lengths)


def _acted(act: Callable[[np.ndarray], np.ndarray], observations: np.ndarray) -> np.ndarray:
    """Return the actions [n, A], including those that are not finite, for which a Policy raises ActionsNotFinite."""
    try:
        return act(observations)
    except ActionsNotFinite as error:
        return error.actions


def _has_limit(environment: gymnasium.Env) -> bool:
    """Return whether Gymnasium's specification of the environment has a time limit.

    A limit that the environment implements itself does not count, so that its episodes may be cut earlier.
    """
    limit = None if environment.spec is None else environment.spec.max_episode_steps
    return limit is not None and limit > 0


@cache
def _say_cut(env_id: str) -> None:
    """Print the warning that episodes are cut, once for each environment."""
    print_once(
        f"warning: env_id={env_id} has no limit of steps: episodes are cut after {MOST_STEPS}; env_kwargs.max_episode_steps "
        "sets one"
    )


def _require_finite(what: str, values: np.ndarray, env_id: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"env_id={env_id} returned {what} with NaN or inf: fix the environment, or choose another")
