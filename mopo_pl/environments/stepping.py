"""One environment that is stepped on and on, and the steps that it gives as rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for


@dataclass(frozen=True, kw_only=True)
class StepLayout:
    """Columns of a recorded step, a row of R = 2D + A + 3 + I numbers.

    observation D | action A in the environment's units | next observation D | reward 1 | terminal 1 | truncated 1 | infos I.
    """

    obs_dim: int
    """D."""
    action_dim: int
    """A."""
    infos: tuple[str, ...]
    """Names of the numbers that the environment gives beside each step, I of them."""

    @property
    def width(self) -> int:
        """R."""
        return 2 * self.obs_dim + self.action_dim + 3 + len(self.infos)

    def fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of rows [N, R] under the names that a log has, flags as bool; a terminal at the limit is a terminal."""
        d, a = self.obs_dim, self.action_dim
        ends = 2 * d + a
        return {
            "observations": rows[:, :d],
            "actions": rows[:, d : d + a],
            "next_observations": rows[:, d + a : ends],
            "rewards": rows[:, ends],
            "terminals": rows[:, ends + 1].astype(bool),
            "timeouts": rows[:, ends + 2].astype(bool) & ~rows[:, ends + 1].astype(bool),
        }

    def infos_of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of infos of rows [N, R], by name."""
        first = self.width - len(self.infos)
        return {name: rows[:, first + i] for i, name in enumerate(self.infos)}


class SteppedEnvironment:
    """An environment whose episode i begins by `reset` with a seed of its own.

    A state is then told by the number of the episode and the actions since it began: `restore` repeats those, so that a
    collection that was killed goes on with the same steps. It needs an environment that repeats itself.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], *, seed: int, purpose: str) -> None:
        """`seed`, `purpose`: of the seeds of episodes. Raises InputError where the environment cannot be made or used."""
        self.env_id, self._seed, self._purpose = env_id, seed, purpose
        self._environment = make_environment(env_id, env_kwargs)
        observation, action = self._environment.observation_space, self._environment.action_space
        if not isinstance(observation, gymnasium.spaces.Box) or not isinstance(action, gymnasium.spaces.Box):
            raise InputError(f"{env_id} has no Box spaces: continuous observations and actions can be collected alone")
        self.action_low = np.asarray(action.low, np.float32).ravel()
        self.action_high = np.asarray(action.high, np.float32).ravel()
        if not np.isfinite([self.action_low, self.action_high]).all():
            raise InputError(f"{env_id} has actions without bounds")
        self._action_shape = action.shape
        self._begin(0)
        names = self._info_names()
        self.layout = StepLayout(
            obs_dim=int(np.prod(observation.shape)), action_dim=int(np.prod(action.shape)), infos=names
        )
        self._begin(0)

    def _begin(self, episode: int) -> None:
        drawn = generator_for(self._seed, f"{self._purpose}, episode {episode}")
        observation, _ = self._environment.reset(seed=int(torch.randint(2**31 - 1, (), generator=drawn)))
        self.episode, self._actions = episode, list[np.ndarray]()
        self.observation = _flat(observation)

    def _info_names(self) -> tuple[str, ...]:
        """Names of the plain numbers among the infos of a first step."""
        middle = (self.action_low + self.action_high) / 2
        *_, infos = self._environment.step(middle.reshape(self._action_shape))
        return tuple(sorted(name for name, value in infos.items() if _is_number(value)))

    def step(self, action: np.ndarray) -> np.ndarray:
        """Take an action [A] in the environment's units; return the step [R] float32, and begin an episode where it ended.

        Raises InputError where an observation or a reward is not finite.
        """
        before, action = self.observation, np.asarray(action, np.float32).ravel()
        after, reward, terminal, truncated, infos = self._environment.step(action.reshape(self._action_shape))
        self.observation = _flat(after)
        self._actions.append(action)
        numbers = [float(infos.get(name, np.nan)) for name in self.layout.infos]
        flags = [float(reward), float(terminal), float(truncated)]
        row = np.concatenate([before, action, self.observation, flags, numbers]).astype(np.float32)
        if not np.isfinite(row[: self.layout.width - len(numbers)]).all():
            raise InputError(f"{self.env_id} gave an observation or a reward with NaN or inf in episode {self.episode}")
        if terminal or truncated:
            self._begin(self.episode + 1)
        return row

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from: the number of the episode, and its actions [t, A]."""
        actions = np.array(self._actions, np.float32).reshape(len(self._actions), self.layout.action_dim)
        return {
            "episode": self.episode,
            "actions": torch.from_numpy(actions),
            "observation": torch.from_numpy(self.observation.copy()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Repeat the episode's actions. Raises InputError where the environment does not come to the same observation."""
        self._begin(int(state["episode"]))
        for action in np.asarray(state["actions"], np.float32):
            self.step(action)
        if not np.array_equal(self.observation, np.asarray(state["observation"])):
            raise InputError(
                f"{self.env_id} does not repeat itself: after the same seed and actions its observation is another; a "
                "collection in it cannot be resumed, start a new one"
            )

    def close(self) -> None:
        """Release the environment."""
        self._environment.close()


def _flat(observation: Any) -> np.ndarray:
    return np.asarray(observation, np.float32).ravel()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)
