"""The environment SafetyHalfCheetah: HalfCheetah with a speed limit (the task of NeoRL-2's dataset SafetyHalfCheetah)."""

from typing import Any, Literal

import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

SPEED_LIMIT = 3.2096
"""Speed above which a step is a violation [m/s]."""
VIOLATION_REWARD = -100.0
"""Reward of a step above the speed limit, for any action."""


class SafetyHalfCheetah(HalfCheetahEnv):
    """HalfCheetah-v5 with a speed limit; the observation [18] begins with the position x [m], and no state is terminal.

    The reward is v_x - 0.1·‖a‖², with v_x = (x' - x)/dt, or -100 if v_x exceeds 3.2096 m/s (Gao et al. 2025, NeoRL-2). The logged
    behaviour does not exceed the limit, so that a policy cannot learn it from the log.
    """

    def __init__(self, **arguments: Any) -> None:
        """Create the environment. `arguments` are those of Gymnasium's HalfCheetah-v5, such as `render_mode`."""
        super().__init__(**{"exclude_current_positions_from_observation": False, **arguments})

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, Literal[False], Literal[False], dict[str, Any]]:
        """Make a step as HalfCheetah does, with the speed limit. `info["violation"]` is whether the step exceeded the limit."""
        observation, reward, terminated, truncated, info = super().step(action)
        info["violation"] = bool(info["x_velocity"] > SPEED_LIMIT)
        return observation, VIOLATION_REWARD if info["violation"] else float(reward), terminated, truncated, info
