"""Two tasks that need states outside of the log, from MOPO's paper: jump and angle (Yu et al. 2020, section 5.2).

The log is collected by a policy trained on the behaviour reward, and then relabelled with the task reward. The learned policy is
evaluated with the task reward.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

MAX_VELOCITY = 3.0
"""Velocity above which the reward of halfcheetah-jump does not rise further [m/s].

The authors' code uses the minimum of velocity and this value, as here; the paper has a maximum.
"""
JUMP = 15.0
"""Reward for each metre of height."""
ANGLE = np.pi / 6
"""Direction of ant-angle, from the x axis [rad]."""

Reward = Literal["task", "behaviour"]


def run_reward(velocity: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return min(v_x, 3) - 0.1‖a‖², the behaviour reward of halfcheetah-jump. `control` is -0.1‖a‖²."""
    return np.minimum(velocity, MAX_VELOCITY) + control


def jump_reward(height: np.ndarray) -> np.ndarray:
    """Return 15·(z' - z_init), which the task reward of halfcheetah-jump adds.

    `height` is z' - z_init of the torso after the step [m], which is observation 0 of s'.
    """
    return JUMP * height


def angle_reward(x_velocity: np.ndarray, y_velocity: np.ndarray) -> np.ndarray:
    """Return v_x·cos 30° + v_y·sin 30°, which replaces v_x in the task reward of ant-angle."""
    return np.cos(ANGLE) * x_velocity + np.sin(ANGLE) * y_velocity


class HalfCheetahJump(HalfCheetahEnv):
    """HalfCheetah-v5 with a reward for running and jumping: r = min(v_x, 3) - 0.1‖a‖² + 15·(z' - z_init).

    z_init is the height of the torso in the model's default pose, 0.7 m. Observation 0 is the height above z_init.
    """

    def __init__(self, reward: Reward = "task", **arguments: Any) -> None:
        """Create the environment. The reward "behaviour" has no term for the jump. Raises TypeError for another name.

        `arguments` are those of Gymnasium's HalfCheetah-v5.
        """
        _check(reward)
        super().__init__(**arguments)
        gymnasium.utils.EzPickle.__init__(self, reward=reward, **arguments)
        self._task = reward == "task"

    def step(self, action: np.ndarray) -> tuple[Any, float, Any, Any, dict[str, Any]]:
        """Make a step as HalfCheetah-v5 does, with the reward of this class. The infos also contain `reward_jump`."""
        observation, _, terminated, truncated, infos = super().step(action)
        infos["reward_jump"] = float(jump_reward(self.data.qpos[1]))
        reward = float(run_reward(infos["x_velocity"], infos["reward_ctrl"]))
        return observation, reward + self._task * infos["reward_jump"], terminated, truncated, infos


class AntAngle(AntEnv):
    """Ant-v5 with 27 observations and a reward for walking at 30° from the x axis, with Ant's costs of control and contact.

    As in v5, a step after which the ant has fallen has no survival reward; in v2, which the authors used, it has one.
    """

    def __init__(self, reward: Reward = "task", **arguments: Any) -> None:
        """Create the environment. The reward "behaviour" uses v_x. Raises TypeError for another name.

        `arguments` are those of Gymnasium's Ant-v5.
        """
        _check(reward)
        arguments = {"include_cfrc_ext_in_observation": False, **arguments}
        super().__init__(**arguments)
        gymnasium.utils.EzPickle.__init__(self, reward=reward, **arguments)
        self._task = reward == "task"

    def step(self, action: np.ndarray) -> tuple[Any, float, Any, Any, dict[str, Any]]:
        """Make a step as Ant-v5 does, with the reward of this class. The infos also contain `reward_angle`."""
        observation, reward, terminated, truncated, infos = super().step(action)
        infos["reward_angle"] = float(angle_reward(infos["x_velocity"], infos["y_velocity"]))
        if self._task:
            reward = reward - infos["reward_forward"] + infos["reward_angle"]
        return observation, float(reward), terminated, truncated, infos


def _check(reward: str) -> None:
    if reward not in ("task", "behaviour"):
        raise TypeError(f"reward={reward} must be task or behaviour")
