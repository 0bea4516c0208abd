"""SafetyHalfCheetah: HalfCheetah with a limit of its speed (the task of NeoRL-2's dataset of that name)."""

from typing import Any, Literal

import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

SPEED_LIMIT = 3.2096
"""Speed above which a step is a violation [m/s]."""
VIOLATION_REWARD = -100.0
"""Reward of such a step, whatever the action."""


class SafetyHalfCheetah(HalfCheetahEnv):
    """HalfCheetah-v5 whose observation [18] begins with the position x [m]; no state is terminal.

    r = v_x - 0.1·‖a‖², with v_x = (x' - x)/dt; -100 where v_x exceeds 3.2096 m/s (Gao et al. 2025, NeoRL-2). Logged
    behaviour does not exceed the limit, so that a policy learned from the log cannot know of it.
    """

    def __init__(self, **arguments: Any) -> None:
        """`arguments`: of Gymnasium's HalfCheetah-v5, such as `render_mode`."""
        super().__init__(**{"exclude_current_positions_from_observation": False, **arguments})

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, Literal[False], Literal[False], dict[str, Any]]:
        """As HalfCheetah's, with the limit; `info["violation"]` says whether the step exceeded it."""
        observation, reward, terminated, truncated, info = super().step(action)
        info["violation"] = bool(info["x_velocity"] > SPEED_LIMIT)
        return observation, VIOLATION_REWARD if info["violation"] else float(reward), terminated, truncated, info
