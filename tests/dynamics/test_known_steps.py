"""How far a log's steps went, and what going further costs."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mopo_pl import assembly
from mopo_pl.config.schema import PenaltyConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.known_steps import Halt, KnownSteps, StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.termination import never

Make = Callable[..., OfflineDataset]
SETTINGS = PenaltyConfig(
    name="none", relative=False, free_quantile=None, value_coef=0.0, halt_widths=0.5, halt_share=0.125
)


LINE = KnownSteps(
    states=StateLimits(torch.zeros(1), torch.ones(1)),
    changes=StateLimits(torch.full((1,), -0.25), torch.full((1,), 0.5)),
)


class Shifted(TransitionModel):
    """s' = s + `by` in every coordinate, without noise; reward 0."""

    def __init__(self, dataset: OfflineDataset, by: float) -> None:
        shape = SimpleNamespace(obs_dim=dataset.obs_dim, action_dim=dataset.action_dim)
        self.ensemble, self.elites, self.by = cast(GaussianEnsemble, shape), torch.tensor([0]), by

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.full((1, len(inputs), 1 + self.ensemble.obs_dim), self.by)
        mean[..., 0] = 0
        return mean, torch.zeros_like(mean)


def halt_of(dataset: OfflineDataset, by: float = 0.0, discount: float = 0.9) -> Halt:
    halt = assembly.build_penalised_model(SETTINGS, Shifted(dataset, by), never, dataset, discount=discount).halt
    assert halt is not None
    return halt


def test_limits_are_the_logs_range_widened_on_either_side_and_none_where_it_has_no_width() -> None:
    limits = StateLimits.around(torch.tensor([[0.0, 5.0], [2.0, 5.0], [1.0, 5.0]]), 3.0)
    assert (limits.low.tolist(), limits.high.tolist()) == ([-6.0, -math.inf], [8.0, math.inf])
    states = torch.tensor([[-6.0, 1e9], [8.0, -1e9], [8.1, 5.0], [math.nan, 5.0], [0.0, math.nan]])
    assert limits.hold(states).tolist() == [True, True, False, False, False]


def test_unknown_is_what_goes_further_than_the_logs_states_or_their_changes(make_dataset: Make) -> None:
    dataset = make_dataset()
    halt, rows = halt_of(dataset), dataset.transitions
    before, after = rows.observations.numpy(), rows.next_observations.numpy()
    ranges = {halt.known.states: np.concatenate([before, after]), halt.known.changes: after - before}
    for limits, values in ranges.items():
        low, high = values.min(0), values.max(0)
        np.testing.assert_allclose(limits.low, low - 0.5 * (high - low), rtol=1e-6)
        np.testing.assert_allclose(limits.high, high + 0.5 * (high - low), rtol=1e-6)
    without = replace(SETTINGS, halt_widths=None)
    assert assembly.build_penalised_model(without, Shifted(dataset, 0.0), never, dataset, discount=0.9).halt is None


def test_c_lies_between_the_deviation_of_a_reward_and_the_range_of_the_logs_returns(make_dataset: Make) -> None:
    """By hand at γ = .5: a fall after 1, 1, -4 is worth -4 a step before it; 1 for ever is worth 2."""
    rewards = np.tile(np.array([1.0, 1.0, -4.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32), 50)
    terminals = np.tile(np.arange(8) == 2, 50)
    halt = halt_of(
        make_dataset(rewards=rewards, terminals=terminals, timeouts=np.tile(np.arange(8) == 7, 50)), discount=0.5
    )
    assert float(halt.price_limit) == halt.least == pytest.approx(rewards.std())
    assert (halt.lowest, halt.most) == pytest.approx((-4, 6))


def test_a_step_beyond_the_log_is_worth_no_less_than_the_logs_worst_fall(make_dataset: Make) -> None:
    """A reward of -9 that others follow makes sums of -90 at γ = .9 conceivable; no logged return is below -9 + 9 + …"""
    rewards = np.tile(np.array([1.0] * 10 + [-9.0] + [9.0] * 9, np.float32), 20)
    halt = halt_of(make_dataset(rewards=rewards, terminals=np.tile(np.arange(20) == 19, 20), timeouts=None))
    sums = [sum(0.9**k * r for k, r in enumerate(rewards[first:20])) for first in range(20)]
    assert halt.lowest == pytest.approx(min(sums))
    assert halt.most == pytest.approx(max(sums) - min(sums))


def test_a_step_beyond_the_log_costs_where_every_step_earns_as_much(make_dataset: Make) -> None:
    """Two a step, for ever: no logged return is worse than another, and C is the size of a reward."""
    dataset = make_dataset()
    dataset.transitions.rows[:, -2] = 2.0
    halt = halt_of(dataset)
    assert (halt.least, halt.most, halt.lowest) == pytest.approx((2, 2, 20))
    assert halt.worth(torch.tensor([20.0])).tolist() == pytest.approx([18])


def test_a_state_that_is_no_number_is_neither_known_nor_unknown(make_dataset: Make) -> None:
    assert halt_of(make_dataset(), math.nan).share == 0.125
    reached = torch.tensor([[0.5], [1.5], [math.nan], [math.inf]])
    assert LINE.exclude(reached.nan_to_num(0.5, 0.5).clamp(max=1), reached).tolist() == [False, True, False, False]


def test_a_step_faster_than_all_logged_ones_is_unknown_also_between_logged_states() -> None:
    states = torch.tensor([[0.2], [0.2], [0.9], [0.9]])
    reached = torch.tensor([[0.7], [0.75], [0.65], [0.6]])
    assert LINE.exclude(states, reached).tolist() == [False, True, False, True]


def test_what_the_logs_own_actions_come_to_is_free(make_dataset: Make) -> None:
    """A model that shifts each state, less than the log's steps do: the rows from which that leaves the states, counted one by one."""
    dataset = make_dataset()
    rows = dataset.transitions
    rows.next_observations[:] = rows.observations.flip(0)
    by = 0.75 * float((rows.observations.amax(0) - rows.observations.amin(0)).min())
    halt = halt_of(dataset, by)
    assert (halt.known.changes.high > by).all()
    states = halt.known.states

    def known(row: Tensor) -> bool:
        return all(low <= value <= high for low, value, high in zip(states.low, row + by, states.high, strict=True))

    left = sum(not known(row) for row in rows.observations)
    assert 0 < left < len(dataset)
    assert halt.share == pytest.approx(0.125 + left / len(dataset))
    assert halt_of(dataset, 0.0).share == 0.125


def test_c_follows_the_share_of_unknown_steps() -> None:
    halt = Halt(known=LINE, price_limit=torch.tensor(2.0), share=0.1, least=1.0, most=50.0, lowest=-9.0)
    seen = []
    for halted in (0.2, 0.1, 0.9, 0.9, 0.03, 0.02, 0.0):
        halt.follow(halted)
        seen.append(float(halt.price_limit))
    # Twice; the same; at most four times; at most 50; the same between ε/4 and ε; 0.9 times below.
    assert seen == pytest.approx([4, 4, 16, 50, 50, 45, 40.5])
    for _ in range(60):
        halt.follow(0.0)
    assert float(halt.price_limit) == 1.0
    halt.follow(0.2)
    halt.begin()
    assert float(halt.price_limit) == 1.0


def test_limits_are_where_the_log_thins_out() -> None:
    """Of five columns of 1000 rows: a bell; one cut at 1.5; the sine of an angle; of 20 levels; a flag."""
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    bell = torch.special.ndtri(even)
    sine, levels, flag = (2 * math.pi * even).sin(), (even * 20).floor(), (even > 0.7).double()
    states = torch.stack([bell, bell.clamp(max=1.5), sine, levels, flag], -1)
    around, inf = StateLimits.around(states, 0.1), math.inf
    limits = around.where_thin(states)
    assert limits.low.tolist() == [*around.low[:2].tolist(), -inf, -inf, -inf]
    assert limits.high.tolist() == [around.high[0].item(), inf, inf, inf, inf]


@pytest.mark.parametrize("spike", [500.0, -1e6])
def test_a_spike_takes_no_limit_from_the_other_side(spike: float) -> None:
    """A range that one broken value stretches would have nearly all rows in its last hundredth."""
    bell = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    states = torch.cat([bell, torch.tensor([spike], dtype=torch.float64)]).unsqueeze(-1)
    limits = StateLimits.around(states, 0.0).where_thin(states)
    assert limits.low.item() == min(spike, bell.min().item())
    assert limits.high.item() == max(spike, bell.max().item())
    assert limits.count == 2


def test_where_episodes_start_says_nothing_of_where_steps_lead(make_dataset: Make) -> None:
    dataset = make_dataset()
    rows = dataset.transitions
    first = rows.observations.amin(0) - 1
    rows.observations[:12] = first
    halt = halt_of(dataset)
    assert halt.known.states.low.isfinite().all()
    assert (halt.known.states.low < first).all()


def test_the_last_state_of_an_episode_is_known(make_dataset: Make) -> None:
    dataset = make_dataset()
    dataset.transitions.next_observations[-1] = 50.0
    assert halt_of(dataset).known.states.hold(torch.full((1, dataset.obs_dim), 50.0)).all()


def test_c_and_its_limits_are_of_a_known_reward_where_there_is_one(make_dataset: Make) -> None:
    """Which pays 3 for each row, and the log nothing."""
    dataset = make_dataset()
    dataset.transitions.rows[:, -2] = 0.0
    model = assembly.build_penalised_model(
        SETTINGS, Shifted(dataset, 0.0), never, dataset, lambda s, a, after: torch.full((len(s),), 3.0), discount=0.9
    )
    assert model.halt is not None
    assert (model.halt.least, model.halt.most, model.halt.lowest) == pytest.approx((3, 3, 30))


def test_lambda_counts_in_the_spread_of_a_known_reward_where_there_is_one(make_dataset: Make) -> None:
    """u is 0.5 everywhere; the reward is 3 on every second row, where the log has 0 everywhere: a spread of 1.5."""
    dataset = make_dataset()
    dataset.transitions.rows[:, -2] = 0.0
    dataset.transitions.observations[:, 0] = torch.arange(len(dataset)) % 2
    settings = replace(SETTINGS, name="max_aleatoric", relative=True, coef=2.0, halt_widths=None)

    class Unsure(Shifted):
        def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            mean, std = super().predict(inputs)
            std[..., 0] = 0.5
            return mean, std

    model = assembly.build_penalised_model(
        settings, Unsure(dataset, 0.0), never, dataset, lambda s, a, after: 3 * s[:, 0], discount=0.9
    )
    assert model.coef == pytest.approx(2 * 1.5 / 0.5, rel=1e-3)


def test_a_step_is_worth_no_less_than_the_worst_of_the_log_and_always_less_than_staying() -> None:
    """C is 40: whole from 100; down to -30 from 5; the smallest C of 1 from -29.5 and from below the worst."""
    halt = Halt(known=LINE, price_limit=torch.tensor(40.0), share=0.1, least=1.0, most=50.0, lowest=-30.0)
    assert halt.worth(torch.tensor([100.0, 5.0, -29.5, -60.0])).tolist() == [60, -30, -30.5, -61]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=60), st.floats(0, 5))
def test_every_logged_step_is_known(values: list[float], widths: float) -> None:
    states, reached = torch.tensor(values[: len(values) // 2 * 2]).view(2, -1, 1)
    assert not KnownSteps.of(states, reached, widths).exclude(states, reached).any()


def test_what_stands_in_for_a_next_state_is_no_logged_change(make_dataset: Make) -> None:
    """A counter rises by about 1. Without next observations, s stands in after the last step of an episode."""
    changes = np.random.default_rng(0).normal(1.0, 0.05, (8, 50)).astype(np.float32)
    counter = np.cumsum(changes, 1, dtype=np.float32).reshape(-1)
    observations = np.stack([counter, counter, counter], -1)
    dataset = make_dataset(observations=observations, next_observations=None)
    assert 0 < (~dataset.next_known).sum() < len(dataset)
    known, seen = halt_of(dataset).known, changes[:, 1:]
    np.testing.assert_allclose(known.changes.low, seen.min() - 0.5 * np.ptp(seen), atol=1e-3)
    np.testing.assert_allclose(known.changes.high, seen.max() + 0.5 * np.ptp(seen), atol=1e-3)
