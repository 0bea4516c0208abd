"""The environment DMSD, in which two coupled masses track two targets (the task of NeoRL-2's dataset DMSD, in closed form)."""

from typing import Any

import gymnasium
import numpy as np

STIFFNESS = 2.0
"""Spring constant k [N/m]."""
DAMPING = 4.0
"""Damping coefficient d [N s/m]."""
MASS = 20.0
"""Each mass m [kg]."""
TIME_STEP = 0.2
"""Duration of an environment step [s]."""
FORCE = 30.0
"""Force F of an action of 1 [N]."""
SWITCH_STEP = 50
"""Step after which each target may be redrawn."""
SWITCH_PROBABILITY = 0.5
"""Probability that a target is redrawn. In the official dataset the two targets are redrawn in 477 and 495 of 1000 episodes."""


def step_masses(positions: np.ndarray, velocities: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x', v' [..., 2] after an explicit Euler step from x, v [..., 2] with the action a [..., 2] in [-1, 1].

    x' = x + dt·v; v'_i = v_i + dt·(-2k·x_i + k·x_j - 2d·v_i + d·v_j + F·a_i)/m.
    """
    coupling = STIFFNESS * (positions[..., ::-1] - 2 * positions) + DAMPING * (velocities[..., ::-1] - 2 * velocities)
    acceleration = (coupling + FORCE * actions) / MASS
    return positions + TIME_STEP * velocities, velocities + TIME_STEP * acceleration


def tracking_reward(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return r = -Σ_i log(|x'_i - T'_i| + 0.01) [...], from positions x' and targets T' [..., 2] after the step."""
    return -np.log(np.abs(positions - targets) + 0.01).sum(-1)


class DMSD(gymnasium.Env):
    """Environment of two coupled masses that track two targets.

    The observation is [x1, x2, v1, v2, T1, T2] float32, and the action is two forces in [-1, 1]. A time limit truncates episodes
    after 100 steps.

    The initial state is uniform, with x in ±0.25 [m], v in ±0.1 [m/s] and targets in ±1.5 [m]. In step 50 each target is redrawn
    with probability ½, and the reward of that step uses the new target. No earlier observation indicates the change: in these
    transitions the next target, and therefore the reward, cannot be predicted.

    >>> import gymnasium
    >>> import mopo_pl.environments
    >>> environment = gymnasium.make("mopo_pl/DMSD-v0")
    >>> observation, info = environment.reset(seed=0)
    >>> observation.shape, environment.action_space.shape
    ((6,), (2,))
    """

    metadata = {"render_modes": []}  # noqa: RUF012  declared like this by Gymnasium

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Draw positions, velocities and targets; return the observation [6] and an empty dict."""
        super().reset(seed=seed)
        self._positions = self.np_random.uniform(-0.25, 0.25, 2)
        self._velocities = self.np_random.uniform(-0.1, 0.1, 2)
        self._targets = self.np_random.uniform(-1.5, 1.5, 2)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Advance by 0.2 s under `action` [2], clipped to [-1, 1]; no state is terminal."""
        clipped = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._positions, self._velocities = step_masses(self._positions, self._velocities, clipped)
        self._steps += 1
        if self._steps == SWITCH_STEP:
            switch = self.np_random.random(2) < SWITCH_PROBABILITY
            self._targets = np.where(switch, self.np_random.uniform(-1.5, 1.5, 2), self._targets)
        return self._observation(), float(tracking_reward(self._positions, self._targets)), False, False, {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self._positions, self._velocities, self._targets]).astype(np.float32)
