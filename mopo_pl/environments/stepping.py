"""One environment that is stepped over many episodes, and the layout of its steps as rows of numbers."""

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
    """Layout of the columns of a recorded step, which is a row of R = 2D + A + 3 + I numbers.

    observation D | action A in the environment's units | next observation D | reward 1 | terminal 1 | truncated 1 | infos I.
    """

    obs_dim: int
    """Number of columns of an observation, D."""
    action_dim: int
    """Number of columns of an action, A."""
    infos: tuple[str, ...]
    """Names of the I numbers in the info dict that are recorded with each step."""

    @property
    def width(self) -> int:
        """Number of columns, R."""
        return 2 * self.obs_dim + self.action_dim + 3 + len(self.infos)

    def fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays in rows [N, R] by the field names of a log, with flags as bool.

        A step that is both terminal and truncated is returned as terminal only.
        """
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
        """Return the columns of infos in rows [N, R] by name."""
        first = self.width - len(self.infos)
        return {name: rows[:, first + i] for i, name in enumerate(self.infos)}


class SteppedEnvironment:
    """An environment in which each episode begins with a `reset` with a separate seed.

    The number of the episode and the actions since its beginning therefore determine the state. `restore` repeats these actions,
    so that a collection that was killed continues with the same steps. The environment must be deterministic for a given seed.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], *, seed: int, purpose: str) -> None:
        """Create the environment and begin episode 0. Raises InputError if the environment cannot be created or used.

        Args:
            env_id: Id of the environment, for `gymnasium.make`.
            env_kwargs: Keyword arguments of `gymnasium.make`.
            seed: Seed from which the seeds of the episodes are drawn.
            purpose: Name of the random generator of these seeds.

        """
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
        """Take one step and return the names of the entries of its info dict that are single numbers."""
        middle = (self.action_low + self.action_high) / 2
        *_, infos = self._environment.step(middle.reshape(self._action_shape))
        return tuple(sorted(name for name, value in infos.items() if _is_number(value)))

    def step(self, action: np.ndarray) -> np.ndarray:
        """Take an action [A] in the environment's units; return the step [R] float32. If the episode ended, begin the next one.

        Raises InputError if an observation or a reward is not finite.
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
        """Return the state for `restore`: the number of the episode, its actions [t, A], and the current observation."""
        actions = np.array(self._actions, np.float32).reshape(len(self._actions), self.layout.action_dim)
        return {
            "episode": self.episode,
            "actions": torch.from_numpy(actions),
            "observation": torch.from_numpy(self.observation.copy()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Repeat the actions of the saved episode. Raises InputError if the environment then has another observation."""
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
