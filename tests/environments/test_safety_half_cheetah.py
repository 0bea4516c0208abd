"""HalfCheetah with a speed limit: its reward, its observation, Gymnasium's rules."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import mopo_pl.environments  # noqa: F401  registers it
from mopo_pl.dynamics.termination import never, termination_rule
from mopo_pl.environments.safety_half_cheetah import SafetyHalfCheetah

ENV_ID = "mopo_pl/SafetyHalfCheetah-v0"


def stepped(velocity: float, action: np.ndarray) -> tuple[float, float, dict]:
    """Position before and after, from observations alone, and the rest of a step that begins at this speed."""
    environment = SafetyHalfCheetah()
    before, _ = environment.reset(seed=0)
    state = environment.data.qvel.copy()
    state[0] = velocity
    environment.set_state(environment.data.qpos.copy(), state)
    after, reward, terminated, truncated, info = environment.step(action)
    assert (terminated, truncated) == (False, False)
    return (after[0] - before[0]) / 0.05, reward, info


@pytest.mark.parametrize("velocity", [-2.0, 0.0, 2.5, 3.0])
def test_below_the_limit_the_reward_is_speed_less_a_tenth_of_the_squared_action(velocity: float) -> None:
    action = np.linspace(-0.5, 0.5, 6)
    speed, reward, info = stepped(velocity, action)
    assert speed < 3.2096
    assert reward == pytest.approx(speed - 0.1 * float((action**2).sum()), abs=1e-9)
    assert info["violation"] is False


@pytest.mark.parametrize("velocity", [4.0, 9.0])
def test_above_the_limit_the_reward_is_a_hundred_less_than_nothing(velocity: float) -> None:
    speed, reward, info = stepped(velocity, np.zeros(6))
    assert speed > 3.2096
    assert reward == -100
    assert info["violation"] is True


def test_an_episode_lasts_a_thousand_steps_and_imagined_ones_never_end() -> None:
    environment = gymnasium.make(ENV_ID)
    environment.reset(seed=0)
    ends = [environment.step(np.zeros(6, np.float32))[2:4] for _ in range(1000)]
    assert set(ends[:-1]) == {(False, False)}
    assert ends[-1] == (False, True)
    assert termination_rule(None, ENV_ID) is never


@pytest.mark.filterwarnings("ignore:.*Box observation space.*is (-inf|inf|infinity)", "ignore:.*WARN")
def test_it_keeps_gymnasiums_rules() -> None:
    check_env(gymnasium.make(ENV_ID).unwrapped, skip_render_check=True)
