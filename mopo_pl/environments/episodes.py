"""Evaluation episodes of a policy in the real environment."""

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
"""Steps after which an episode is cut in an environment without a limit of its own."""
GROUP = 25
"""Environments stepped together: a batch large enough for one policy call, with few idle environments at the end."""


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

    `before_step`: called before each step; what it raises ends the evaluation. `act`: maps observations [n, D] to actions [n, A] in the environment's units. The result of an episode does not
    depend on the other episodes stepped with it. Where `act` has a method `reset`, as a Policy has, it is called before
    each group of episodes. An episode in which `act` gives NaN or inf ends there, with return NaN.
    An environment without a limit of steps is cut after `MOST_STEPS`.
    Raises InputError if the environment cannot be created, or returns an observation or a reward that is not finite.
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
    """Concatenate; no groups give no episodes."""
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
    """Run one episode in each of `len(numbers)` environments; steps after an episode's end do not count."""
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
    """Actions [n, A], also those that a Policy refuses to give."""
    try:
        return act(observations)
    except ActionsNotFinite as error:
        return error.actions


def _has_limit(environment: gymnasium.Env) -> bool:
    """Whether its time limit is known to Gymnasium. One that an environment keeps itself is not; such an episode may be cut."""
    limit = None if environment.spec is None else environment.spec.max_episode_steps
    return limit is not None and limit > 0


@cache
def _say_cut(env_id: str) -> None:
    """Say it once."""
    print_once(
        f"warning: env_id={env_id} has no limit of steps: episodes are cut after {MOST_STEPS}; env_kwargs.max_episode_steps "
        "sets one"
    )


def _require_finite(what: str, values: np.ndarray, env_id: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"env_id={env_id} returned {what} with NaN or inf: fix the environment, or choose another")
