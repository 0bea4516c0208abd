"""Discounted returns of logged states, and what those states are worth, against sums step by step."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mopo_pl.assembly import build_sac
from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.statistics import NEGLIGIBLE, logged_values, returns_to_go, steps_to_go

Make = Callable[..., OfflineDataset]


def log_of(episodes: list[tuple[list[float], bool]]) -> OfflineDataset:
    """A log of these rewards; each episode ends in a terminal state or at a time limit."""
    rewards = np.array([reward for episode, _ in episodes for reward in episode], np.float32)
    last = np.cumsum([len(episode) for episode, _ in episodes]) - 1
    terminals, timeouts = np.zeros(len(rewards), bool), np.zeros(len(rewards), bool)
    terminals[last], timeouts[last] = [ended for _, ended in episodes], [not ended for _, ended in episodes]
    states = np.arange(len(rewards), dtype=np.float32)[:, None]
    raw = RawLog(
        source="a test",
        observations=states,
        actions=np.zeros((len(rewards), 1), np.float32),
        rewards=rewards,
        terminals=terminals,
        timeouts=timeouts,
        next_observations=states + 1,
    )
    bounds = -np.ones(1), np.ones(1)
    return assemble(raw, name="test", bounds=bounds, time_limit=None, clip_actions=False)


def lowest(dataset: OfflineDataset, discount: float) -> float:
    return float(logged_values(dataset, discount).min())


def slowly(episodes: list[tuple[list[float], bool]], discount: float) -> tuple[list[float], list[float]]:
    returns, fallen, long, whole = [], [], [], []
    for rewards, ended in episodes:
        for first in range(len(rewards)):
            rest = rewards[first:]
            total = sum(discount**k * float(np.float32(reward)) for k, reward in enumerate(rest))
            returns.append(total)
            value = total if ended else total / sum(discount**k for k in range(len(rest))) / (1 - discount)
            if ended:
                fallen.append(value)
            elif len(rest) >= round(1 / (1 - discount)):
                long.append(value)
            if first == 0 and not ended:
                whole.append(value)
    return returns, sorted(fallen + (long or whole))


rewards = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@example([([1.0] + [0.0] * 10, False)], 0.9)
@given(st.lists(st.tuples(rewards, st.booleans()), min_size=1, max_size=5), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_returns_are_the_sums_step_by_step(episodes: list[tuple[list[float], bool]], discount: float) -> None:
    dataset = log_of(episodes)
    returns, values = slowly(episodes, discount)
    left_out = NEGLIGIBLE * 10 / (1 - discount)
    np.testing.assert_allclose(returns_to_go(dataset, discount), returns, rtol=1e-9, atol=left_out)
    np.testing.assert_allclose(logged_values(dataset, discount).sort().values, values, rtol=1e-9, atol=100 * left_out)


def test_one_fall_does_not_hide_what_short_episodes_without_one_earned() -> None:
    """Batches of five steps of 1, each cut by a limit, and one alarm after two: all batches count, at 1/(1 - γ)."""
    dataset = log_of([([1.0] * 5, False)] * 9 + [([0.0, -1.0], True)])
    values = logged_values(dataset, 0.9)
    assert sorted(values.tolist()) == pytest.approx([-1, -0.9, *[10.0] * 9])


def test_what_follows_a_time_limit_is_taken_to_be_like_what_came_before_it() -> None:
    """A reward of -2 for ever is worth -20 at γ = .9, however long it was logged; one terminal step of -2 is worth -2."""
    assert lowest(log_of([([-2.0] * 10, False)]), 0.9) == pytest.approx(-20)
    assert lowest(log_of([([-2.0] * 300, False)]), 0.9) == pytest.approx(-20)
    assert lowest(log_of([([-2.0], True)]), 0.9) == pytest.approx(-2)


def test_a_bad_last_step_before_a_time_limit_is_no_bad_state() -> None:
    """Nine further steps are not seen; only whole episodes are, or states with ten steps to go at γ = .9."""
    assert lowest(log_of([([1.0] * 20 + [-5.0], False)]), 0.9) > 0
    assert lowest(log_of([([1.0, -5.0], False)]), 0.9) == pytest.approx((1 - 4.5) / 1.9 / 0.1)


def test_steps_are_counted_to_the_end_of_an_episode_that_includes_the_last(make_dataset: Make) -> None:
    assert steps_to_go(make_dataset(rows=400))[:51].tolist() == [*range(50, 0, -1), 50]


def test_the_critics_start_at_what_logged_states_are_worth_on_average(make_dataset: Make) -> None:
    dataset = make_dataset(rows=400)
    mean = float(logged_values(dataset, 0.99).mean())
    found = {}
    for start in (True, False):
        settings_ = compose([f"sac.start_at_log_value={str(start).lower()}", "sac.schedule_epochs=1"]).sac
        critic = build_sac(settings_, dataset, seed=0, compile=False).critic
        found[start] = critic(dataset.transitions.observations, dataset.transitions.actions).detach()
    np.testing.assert_allclose(found[True], found[False] + mean, rtol=1e-5, atol=1e-4)
    assert abs(mean) > 1


def test_a_known_reward_sets_where_the_critics_start_and_leaves_their_targets_unbounded(make_dataset: Make) -> None:
    """The log pays at most 0; 10 a step for ever is worth 1000 at γ = .99."""
    dataset = make_dataset(rows=400)
    settings_ = compose(["sac.schedule_epochs=1", "sac.discount=0.99"]).sac

    def ten(states: Tensor, actions: Tensor, reached: Tensor) -> Tensor:
        return torch.full((len(states),), 10.0)

    known = build_sac(settings_, dataset, ten, seed=0, compile=False)
    learned = build_sac(settings_, dataset, seed=0, compile=False)
    rows = dataset.transitions
    difference = known.critic(rows.observations, rows.actions) - learned.critic(rows.observations, rows.actions)
    expected = 1000 - float(logged_values(dataset, 0.99).mean())
    np.testing.assert_allclose(difference.detach(), expected, rtol=1e-4)
    low, high = learned.hparams["target_bounds"]
    assert low == pytest.approx(float(rows.rewards.min()) * 100)
    assert high == 0
    assert known.hparams["target_bounds"] is None
