"""Jump and angle: rewards derived anew from the simulator's positions, step by step."""

import copy
import math
from typing import Any

import gymnasium
import numpy as np
import pytest

import mopo_pl.environments  # noqa: F401
from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import InputError

Steps = list[dict[str, Any]]


def play(env_id: str, steps: int = 60, **arguments: Any) -> Steps:
    """What each step gave, and where the torso was before and after it."""
    environment = gymnasium.make(env_id, **arguments)
    environment.action_space.seed(1)
    environment.reset(seed=1)
    data: Any = environment.unwrapped.data  # type: ignore[attr-defined]
    rows = []
    for _ in range(steps):
        action, before = environment.action_space.sample(), data.qpos.copy()
        torso = data.body("torso").xpos.copy()
        observation, reward, terminal, _, infos = environment.step(action)
        rows.append(
            {
                **{"action": action, "observation": observation, "reward": reward, "infos": infos},
                **{"qpos": data.qpos.copy(), "before": before, "moved": data.body("torso").xpos - torso},
                **{"forces": data.cfrc_ext.copy(), "terminal": terminal},
            }
        )
        if terminal:
            break
    dt = environment.unwrapped.dt  # type: ignore[attr-defined]
    environment.close()
    return [{**row, "dt": dt} for row in rows]


@pytest.mark.parametrize("reward", ["task", "behaviour"])
def test_halfcheetah_jump_pays_speed_control_and_height(reward: str) -> None:
    """min(v_x, 3) - 0.1‖a‖² + 15·(z' - z_init), z of the torso above where the model stands."""
    steps = play("mopo_pl/HalfCheetahJump-v0", reward=reward)
    for step in steps:
        velocity = (step["qpos"][0] - step["before"][0]) / step["dt"]
        expected = min(velocity, 3.0) - 0.1 * sum(a * a for a in step["action"])
        expected += 15 * step["qpos"][1] if reward == "task" else 0.0
        assert step["reward"] == pytest.approx(expected, abs=1e-6)
        assert step["observation"][0] == step["qpos"][1]
        assert step["infos"]["reward_jump"] == pytest.approx(15 * step["observation"][0])
    assert len(steps) == 60
    assert any(abs(step["qpos"][1]) > 0.05 for step in steps)


def test_speed_above_three_pays_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

    fast = {"x_velocity": 7.0, "reward_ctrl": -0.2}
    monkeypatch.setattr(HalfCheetahEnv, "step", lambda self, action: (np.zeros(17), 6.8, False, False, dict(fast)))
    environment = gymnasium.make("mopo_pl/HalfCheetahJump-v0", reward="behaviour").unwrapped
    assert environment.step(np.zeros(6))[1] == pytest.approx(3.0 - 0.2)


@pytest.mark.parametrize("reward", ["task", "behaviour"])
def test_ant_angle_pays_the_way_at_thirty_degrees(reward: str) -> None:
    steps = play("mopo_pl/AntAngle-v0", reward=reward)
    for step in steps:
        x, y, _ = step["moved"] / step["dt"]
        way = math.cos(math.radians(30)) * x + math.sin(math.radians(30)) * y if reward == "task" else x
        contact = 5e-4 * np.square(np.clip(step["forces"], -1, 1)).sum()
        costs = 0.5 * sum(a * a for a in step["action"]) + contact
        assert step["reward"] == pytest.approx(way - costs + (not step["terminal"]), abs=1e-5)
        assert step["observation"].shape == (27,)
    assert len(steps) > 10
    assert any(abs(step["moved"][1]) > 1e-3 for step in steps)


@pytest.mark.parametrize("env_id", ["mopo_pl/HalfCheetahJump-v0", "mopo_pl/AntAngle-v0"])
def test_another_reward_is_refused_and_a_copy_keeps_its_own(env_id: str) -> None:
    with pytest.raises(InputError, match="reward=speed must be task or behaviour"):
        make_environment(env_id, {"reward": "speed"})
    environment = make_environment(env_id, {"reward": "behaviour"})
    again = copy.deepcopy(environment.unwrapped)
    for each in (environment.unwrapped, again):
        each.reset(seed=3)
    action = np.full(environment.action_space.shape, 0.5, np.float32)  # type: ignore[arg-type]
    assert again.step(action)[1] == environment.unwrapped.step(action)[1]
