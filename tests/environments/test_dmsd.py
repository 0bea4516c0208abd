"""Two coupled masses: the equations, the moving targets, Gymnasium's rules."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import mopo_pl.environments  # noqa: F401  registers it
from mopo_pl.environments.dmsd import DMSD, step_masses, tracking_reward

NUMBER = st.floats(-10, 10)
PAIR = st.tuples(NUMBER, NUMBER)


def scalar_step(x1: float, x2: float, v1: float, v2: float, a1: float, a2: float) -> tuple[float, ...]:
    """Newton's law for each mass: spring and damper to its wall, spring and damper to the other mass, the force."""
    k, d, m, dt, force = 2.0, 4.0, 20.0, 0.2, 30.0
    wall1, wall2 = -k * x1 - d * v1, -k * x2 - d * v2
    between = k * (x2 - x1) + d * (v2 - v1)  # on mass 1; on mass 2 its opposite
    acceleration1 = (wall1 + between + force * a1) / m
    acceleration2 = (wall2 - between + force * a2) / m
    return x1 + dt * v1, x2 + dt * v2, v1 + dt * acceleration1, v2 + dt * acceleration2


@given(PAIR, PAIR, st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_a_step_is_newtons_law_by_explicit_euler(x: tuple, v: tuple, a: tuple) -> None:
    positions, velocities = step_masses(np.array(x), np.array(v), np.array(a))
    assert [*positions, *velocities] == pytest.approx(scalar_step(*x, *v, *a), abs=1e-12)


def test_a_full_force_on_masses_at_rest_adds_three_tenths_to_the_speed() -> None:
    positions, velocities = step_masses(np.zeros(2), np.zeros(2), np.array([1.0, 0.0]))
    assert (positions.tolist(), velocities.tolist()) == ([0, 0], pytest.approx([0.2 * 30 / 20, 0]))


def test_steps_of_many_states_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    x, v, a = rng.uniform(-1, 1, (3, 5, 2))
    together = step_masses(x, v, a)
    for i in range(5):
        each = step_masses(x[i], v[i], a[i])
        np.testing.assert_array_equal(together[0][i], each[0])
        np.testing.assert_array_equal(together[1][i], each[1])


@given(PAIR, PAIR)
def test_the_reward_is_the_negative_sum_of_log_distances(x: tuple, target: tuple) -> None:
    expected = -sum(math.log(abs(p - t) + 0.01) for p, t in zip(x, target, strict=True))
    assert tracking_reward(np.array(x), np.array(target)) == pytest.approx(expected)


def test_on_both_targets_the_reward_is_largest() -> None:
    assert tracking_reward(np.zeros(2), np.zeros(2)) == pytest.approx(2 * math.log(100))


def test_an_episode_follows_the_equations_and_ends_by_the_time_limit_only() -> None:
    environment = gymnasium.make("mopo_pl/DMSD-v0")
    observation, _ = environment.reset(seed=1)
    rng = np.random.default_rng(1)
    for step in range(1, 101):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        following, reward, terminal, truncated, _ = environment.step(action)
        expected = scalar_step(*map(float, observation[:4]), *map(float, action))
        np.testing.assert_allclose(following[:4], expected, atol=1e-5)
        distances = [abs(float(p) - float(t)) for p, t in zip(following[:2], following[4:], strict=True)]
        assert float(reward) == pytest.approx(-sum(math.log(distance + 0.01) for distance in distances), abs=1e-3)
        if step != 50:
            np.testing.assert_array_equal(following[4:], observation[4:])
        assert (terminal, truncated) == (False, step == 100)
        observation = following


def test_at_step_fifty_each_target_moves_by_itself_with_probability_one_half() -> None:
    moved = []
    for seed in range(200):
        environment = DMSD()
        before = after = environment.reset(seed=seed)[0][4:]
        for _ in range(50):
            after = environment.step(np.zeros(2))[0][4:]
        moved.append(after != before)
    counts = np.sum(moved, 0)
    assert (np.abs(counts - 100) < 4 * math.sqrt(50)).all()
    both = np.all(moved, 1).sum()
    assert abs(both - 50) < 4 * math.sqrt(200 * 0.25 * 0.75)


def test_the_reward_of_the_switch_is_measured_to_the_new_target() -> None:
    for seed in range(20):
        environment = DMSD()
        before = environment.reset(seed=seed)[0][4:]
        for _ in range(49):
            environment.step(np.zeros(2))
        after, reward, *_ = environment.step(np.zeros(2))
        if (after[4:] != before).any():
            assert reward == pytest.approx(float(tracking_reward(after[:2], after[4:])), abs=1e-4)
            return
    pytest.fail("no target moved in 20 episodes")


def test_starts_and_targets_fill_their_ranges() -> None:
    starts = np.stack([DMSD().reset(seed=seed)[0] for seed in range(300)])
    for columns, bound in ((slice(0, 2), 0.25), (slice(2, 4), 0.1), (slice(4, 6), 1.5)):
        assert np.abs(starts[:, columns]).max() <= bound
        assert starts[:, columns].max() > 0.95 * bound
        assert starts[:, columns].min() < -0.95 * bound


def test_actions_beyond_full_force_are_full_force() -> None:
    twice, once = DMSD(), DMSD()
    twice.reset(seed=0)
    once.reset(seed=0)
    np.testing.assert_array_equal(twice.step(np.array([2.0, -9.0]))[0], once.step(np.array([1.0, -1.0]))[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_checker_finds_nothing_wrong() -> None:
    check_env(gymnasium.make("mopo_pl/DMSD-v0").unwrapped)
