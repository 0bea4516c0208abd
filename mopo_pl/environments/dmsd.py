"""DMSD: two coupled masses track targets (the task of NeoRL-2's dataset of that name, in closed form)."""

from typing import Any

import gymnasium
import numpy as np

STIFFNESS = 2.0
"""k [N/m]."""
DAMPING = 4.0
"""d [N s/m]."""
MASS = 20.0
"""m [kg]."""
TIME_STEP = 0.2
"""[s]."""
FORCE = 30.0
"""Of a full action [N]."""
SWITCH_STEP = 50
"""Step after which each target may have moved."""
SWITCH_PROBABILITY = 0.5
"""Of each target, by itself: 477 and 495 of the official log's 1000 episodes."""


def step_masses(positions: np.ndarray, velocities: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Explicit Euler step of x, v [..., 2] under a [..., 2] in [-1, 1].

    x' = x + dt·v; v'_i = v_i + dt·(-2k·x_i + k·x_j - 2d·v_i + d·v_j + F·a_i)/m.
    """
    coupling = STIFFNESS * (positions[..., ::-1] - 2 * positions) + DAMPING * (velocities[..., ::-1] - 2 * velocities)
    acceleration = (coupling + FORCE * actions) / MASS
    return positions + TIME_STEP * velocities, velocities + TIME_STEP * acceleration


def tracking_reward(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-Σ log(|x' - T'| + 0.01): both the positions and the targets after the step [...]."""
    return -np.log(np.abs(positions - targets) + 0.01).sum(-1)


class DMSD(gymnasium.Env):
    """Observation [x1, x2, v1, v2, T1, T2] float32, action two forces in [-1, 1]; 100 steps (by the time limit).

    Start: x in ±0.25, v in ±0.1, targets in ±1.5, all uniform. The observation after step 50 shows each target redrawn
    with probability ½; the reward of that step is measured to the new one. Nothing announces it: on those rows the next
    target, and through it the reward, cannot be predicted.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own form

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Draws positions, velocities and targets."""
        super().reset(seed=seed)
        self._positions = self.np_random.uniform(-0.25, 0.25, 2)
        self._velocities = self.np_random.uniform(-0.1, 0.1, 2)
        self._targets = self.np_random.uniform(-1.5, 1.5, 2)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One step of 0.2 s; never terminal."""
        clipped = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._positions, self._velocities = step_masses(self._positions, self._velocities, clipped)
        self._steps += 1
        if self._steps == SWITCH_STEP:
            switch = self.np_random.random(2) < SWITCH_PROBABILITY
            self._targets = np.where(switch, self.np_random.uniform(-1.5, 1.5, 2), self._targets)
        return self._observation(), float(tracking_reward(self._positions, self._targets)), False, False, {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self._positions, self._velocities, self._targets]).astype(np.float32)
