"""An environment that is stepped, and restored from its seed and its actions."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from mopo_pl.environments.stepping import StepLayout, SteppedEnvironment
from mopo_pl.errors import InputError


def stepped(env_id: str = "Pendulum-v1", seed: int = 0, **arguments: Any) -> SteppedEnvironment:
    return SteppedEnvironment(env_id, arguments, seed=seed, purpose="test")


def actions(environment: SteppedEnvironment, steps: int) -> np.ndarray:
    shares = np.random.default_rng(5).random((steps, environment.layout.action_dim))
    return (environment.action_low + shares * (environment.action_high - environment.action_low)).astype(np.float32)


def test_a_row_is_what_the_environment_gave() -> None:
    """Written out with an environment of the same seeds, over a time limit."""
    environment = stepped("HalfCheetah-v5")
    taken = actions(environment, 1003)
    rows = np.stack([environment.step(action) for action in taken])
    fields, infos = environment.layout.fields(rows), environment.layout.infos_of(rows)
    assert environment.layout.infos == ("reward_ctrl", "reward_forward", "x_position", "x_velocity")
    assert np.array_equal(fields["actions"], taken)
    assert np.flatnonzero(fields["timeouts"]).tolist() == [999]
    assert not fields["terminals"].any()
    assert np.array_equal(fields["observations"][1:1000], fields["next_observations"][:999])
    assert not np.array_equal(fields["observations"][1000], fields["next_observations"][999])
    np.testing.assert_allclose(infos["reward_ctrl"], -0.1 * np.square(taken).sum(1), rtol=1e-5)
    np.testing.assert_allclose(fields["rewards"], infos["reward_forward"] + infos["reward_ctrl"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        np.diff(infos["x_position"][:1000]) / 0.05, infos["x_velocity"][1:1000], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Hopper-v5", "mopo_pl/DMSD-v0"])
@pytest.mark.parametrize("at", [0, 30, 130])
def test_a_restored_environment_goes_on_with_the_same_steps(env_id: str, at: int) -> None:
    whole, first, second = (stepped(env_id) for _ in range(3))
    taken = actions(whole, 260)
    expected = np.stack([whole.step(action) for action in taken])
    rows = [first.step(action) for action in taken[:at]]
    second.restore(first.state())
    rows += [second.step(action) for action in taken[at:]]
    assert np.array_equal(np.stack(rows), expected)


def test_another_seed_begins_elsewhere_and_episodes_differ() -> None:
    first, second = stepped(seed=0), stepped(seed=1)
    assert not np.array_equal(first.observation, second.observation)
    begun = first.observation
    for action in actions(first, 200):
        first.step(action)
    assert first.episode == 1
    assert not np.array_equal(first.observation, begun)


class Unrepeatable(gymnasium.Env):
    """Draws from a generator that `reset` does not seed."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    draws = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return self.draws.random(2).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.draws.random(2).astype(np.float32), float("nan") if action > 0.9 else 0.0, False, False, {}


def test_what_cannot_be_repeated_or_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("Unrepeatable-v0", entry_point=lambda **arguments: Unrepeatable(), disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Unrepeatable-v0", spec)
    environment = stepped("Unrepeatable-v0")
    environment.step(np.zeros(1))
    with pytest.raises(InputError, match="Unrepeatable-v0 does not repeat itself"):
        environment.restore(environment.state())
    with pytest.raises(InputError, match="an observation or a reward with NaN or inf in episode 0"):
        environment.step(np.ones(1))


def test_a_terminal_at_the_limit_is_a_terminal() -> None:
    layout = StepLayout(obs_dim=1, action_dim=1, infos=())
    rows = np.array([[0, 0, 0, 0, flag, limit] for flag in (0, 1) for limit in (0, 1)], np.float32)
    fields = layout.fields(rows)
    assert fields["terminals"].tolist() == [False, False, True, True]
    assert fields["timeouts"].tolist() == [False, True, False, False]


def test_discrete_actions_cannot_be_collected() -> None:
    with pytest.raises(InputError, match="CartPole-v1 has no Box spaces"):
        stepped("CartPole-v1")
