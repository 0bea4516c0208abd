"""The two tasks by which MOPO's paper measures how far a policy gets from its log: jump and angle (Yu et al. 2020, section 5.2).

The log is collected on the behaviour's reward, relabelled with the task's, and the policy is scored by the task's.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

MAX_VELOCITY = 3.0
"""Velocity above which halfcheetah-jump pays no more [m/s]; the authors' code takes the minimum, the paper prints a maximum."""
JUMP = 15.0
"""Reward of a metre of height."""
ANGLE = np.pi / 6
"""Direction of ant-angle, from the x axis [rad]."""

Reward = Literal["task", "behaviour"]


def run_reward(velocity: np.ndarray, control: np.ndarray) -> np.ndarray:
    """min(v_x, 3) - 0.1‖a‖², the behaviour's reward of halfcheetah-jump; `control`: -0.1‖a‖²."""
    return np.minimum(velocity, MAX_VELOCITY) + control


def jump_reward(height: np.ndarray) -> np.ndarray:
    """15·(z' - z_init), what the task adds; `height`: z' - z_init of the torso after the step [m], observation 0 of s'."""
    return JUMP * height


def angle_reward(x_velocity: np.ndarray, y_velocity: np.ndarray) -> np.ndarray:
    """v_x·cos 30° + v_y·sin 30°, what ant-angle pays in place of v_x."""
    return np.cos(ANGLE) * x_velocity + np.sin(ANGLE) * y_velocity


class HalfCheetahJump(HalfCheetahEnv):
    """HalfCheetah-v5 that is to run and jump: r = min(v_x, 3) - 0.1‖a‖² + 15·(z' - z_init).

    z_init is the height at which the model stands, 0.7 m; observation 0 is the height above it.
    """

    def __init__(self, reward: Reward = "task", **arguments: Any) -> None:
        """`reward`: "behaviour" leaves out the jump. Raises TypeError for another one."""
        _check(reward)
        super().__init__(**arguments)
        gymnasium.utils.EzPickle.__init__(self, reward=reward, **arguments)
        self._task = reward == "task"

    def step(self, action: np.ndarray) -> tuple[Any, float, Any, Any, dict[str, Any]]:
        """As HalfCheetah-v5; infos have `reward_jump` too."""
        observation, _, terminated, truncated, infos = super().step(action)
        infos["reward_jump"] = float(jump_reward(self.data.qpos[1]))
        reward = float(run_reward(infos["x_velocity"], infos["reward_ctrl"]))
        return observation, reward + self._task * infos["reward_jump"], terminated, truncated, infos


class AntAngle(AntEnv):
    """Ant-v5 with 27 observations that is to walk at 30° from the x axis, with Ant's costs of control and contact.

    As in v5, a step after which the ant has fallen pays no reward of survival; the authors' v2 paid it.
    """

    def __init__(self, reward: Reward = "task", **arguments: Any) -> None:
        """`reward`: "behaviour" pays v_x. Raises TypeError for another one."""
        _check(reward)
        arguments = {"include_cfrc_ext_in_observation": False, **arguments}
        super().__init__(**arguments)
        gymnasium.utils.EzPickle.__init__(self, reward=reward, **arguments)
        self._task = reward == "task"

    def step(self, action: np.ndarray) -> tuple[Any, float, Any, Any, dict[str, Any]]:
        """As Ant-v5; infos have `reward_angle` too."""
        observation, reward, terminated, truncated, infos = super().step(action)
        infos["reward_angle"] = float(angle_reward(infos["x_velocity"], infos["y_velocity"]))
        if self._task:
            reward = reward - infos["reward_forward"] + infos["reward_angle"]
        return observation, float(reward), terminated, truncated, infos


def _check(reward: str) -> None:
    if reward not in ("task", "behaviour"):
        raise TypeError(f"reward={reward} must be task or behaviour")
