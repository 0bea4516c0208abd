"""Batches of real and imagined rows."""

from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset

Make = Callable[..., OfflineDataset]
IMAGINED = 1000.0
"""Reward of imagined rows; those of the log are not positive."""


def mixture(
    dataset: OfflineDataset,
    *,
    ratio: float = 0.25,
    seed: int = 0,
    batch_size: int = 16,
    updates_per_epoch: int = 7,
    updates_per_step: int = 1,
) -> OfflineDataModule:
    return OfflineDataModule(
        dataset,
        batch_size=batch_size,
        real_ratio=ratio,
        updates_per_epoch=updates_per_epoch,
        updates_per_step=updates_per_step,
        retain=2,
        capacity=30,
        refresh_folder=None,
        seed=seed,
    )


def refresh(data: OfflineDataModule, rows: int = 30) -> None:
    imagined = data.log_rows.rows[:rows].clone()
    imagined[:, -2] = IMAGINED + torch.arange(rows)
    data.model_buffer.begin()
    data.model_buffer.append(imagined, torch.ones(rows, dtype=torch.bool))
    data.model_buffer.end()


def batches(data: OfflineDataModule, count: int) -> Tensor:
    return data.sample(count).rows


@pytest.mark.parametrize(
    ("batch_size", "ratio", "real"), [(256, 0.05, 12), (16, 0.25, 4), (10, 0.99, 9), (10, 0.09, 0), (16, 0.0, 0)]
)
def test_the_integer_part_of_batch_times_ratio_is_real_and_comes_first(
    make_dataset: Make, batch_size: int, ratio: float, real: int
) -> None:
    data = mixture(make_dataset(), batch_size=batch_size, ratio=ratio)
    refresh(data)
    for rewards in data.sample(20).rewards:
        assert (rewards < IMAGINED).tolist() == [True] * real + [False] * (batch_size - real)


def test_a_ratio_of_one_needs_no_imagination_and_keeps_no_room_for_it(make_dataset: Make) -> None:
    data = mixture(make_dataset(), ratio=1.0)
    assert data.sample(1).rewards.max() <= 0
    assert len(data.model_buffer.rows) == 1


def test_a_batch_without_rollouts_is_refused(make_dataset: Make) -> None:
    with pytest.raises(ValueError, match="no rollouts were made"):
        mixture(make_dataset()).sample(1)


@pytest.mark.parametrize(
    ("updates", "at_most", "in_a_block"),
    [(7, 1, 1), (7, 10, 7), (20, 10, 10), (20, 9, 5), (1009, 10, 1), (12, 100, 12)],
)
def test_an_epoch_comes_in_equal_blocks_that_hold_all_its_updates(
    make_dataset: Make, updates: int, at_most: int, in_a_block: int
) -> None:
    data = mixture(make_dataset(), updates_per_epoch=updates, updates_per_step=at_most)
    refresh(data)
    blocks = list(data.train_dataloader())
    assert [len(block) for block in blocks] == [in_a_block] * (updates // in_a_block)
    assert len(data.train_dataloader()) == len(blocks)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.integers(1, 33), st.floats(0, 1))
@example(3, 4, 1.0)
def test_the_size_of_a_block_changes_no_batch(make_dataset: Make, block: int, batch_size: int, ratio: float) -> None:
    drawn = []
    for at_most in (1, block):
        data = mixture(
            make_dataset(), batch_size=batch_size, ratio=ratio, updates_per_epoch=12, updates_per_step=at_most
        )
        if data.real_rows < batch_size:  # else no room is kept for a refresh
            refresh(data)
        drawn.append(torch.cat([batches.rows for batches in data]))
    assert torch.equal(*drawn)


def test_every_real_row_is_a_whole_row_of_the_log_and_each_is_drawn(make_dataset: Make) -> None:
    dataset = make_dataset(50)
    drawn = batches(mixture(dataset, ratio=1.0), 60).flatten(0, 1)
    log = {tuple(row) for row in dataset.transitions.rows.tolist()}
    assert {tuple(row) for row in drawn.tolist()} == log


def test_real_rows_are_drawn_uniformly(make_dataset: Make) -> None:
    dataset = make_dataset(10, rewards=-np.arange(10.0))
    drawn = torch.cat(list(batches(mixture(dataset, ratio=1.0, batch_size=1000), 20)))
    counts = torch.bincount(-drawn[:, -2].long(), minlength=10)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 33.7  # 99.99 % quantile at 9 degrees of freedom


def test_batches_are_those_of_the_seed(make_dataset: Make) -> None:
    first, same, other = (mixture(make_dataset(), seed=seed) for seed in (3, 3, 4))
    for data in (first, same, other):
        refresh(data)
    drawn = batches(first, 5)
    torch.rand(1)  # the global stream plays no part
    assert torch.equal(batches(same, 5), drawn)
    assert not torch.equal(batches(other, 5), drawn)


def test_starts_come_from_their_own_stream_and_leave_the_batches_alone(make_dataset: Make) -> None:
    data, undisturbed = mixture(make_dataset()), mixture(make_dataset())
    refresh(data)
    refresh(undisturbed)
    starts = data.sample_starts(40, torch.Generator().manual_seed(0))
    again = undisturbed.sample_starts(40, torch.Generator().manual_seed(0))
    assert torch.equal(starts, again)
    undisturbed.sample_starts(3, torch.Generator().manual_seed(1))
    assert torch.equal(batches(data, 3), batches(undisturbed, 3))


def test_starts_are_logged_states_each_as_likely(make_dataset: Make) -> None:
    dataset = make_dataset(40)
    with patch(
        "mopo_pl.data.batches.policy_batches.torch.randint", lambda high, size, **_: torch.arange(high).expand(size)
    ):
        starts = mixture(dataset).sample_starts(40, torch.Generator())
    assert torch.equal(starts, dataset.transitions.observations)


def test_a_resumed_mixture_goes_on_with_the_same_batches(make_dataset: Make) -> None:
    data = mixture(make_dataset())
    refresh(data)
    refresh(data, 11)
    batches(data, 4)
    state = data.state_dict()
    expected = batches(data, 4)
    refresh(data, 20)
    expected_later = batches(data, 4)
    resumed = mixture(make_dataset(), seed=99)
    resumed.load_state_dict(state)
    assert torch.equal(batches(resumed, 4), expected)
    refresh(resumed, 20)
    assert torch.equal(batches(resumed, 4), expected_later)


def test_each_rank_draws_its_own_batches(make_dataset: Make) -> None:
    drawn = []
    for rank in (0, 1, 1):
        data = mixture(make_dataset(), ratio=1.0)
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            strategy=SimpleNamespace(root_device=torch.device("cpu")), global_rank=rank, current_epoch=0
        )
        data.setup("fit")
        drawn.append(data.sample(1).rows)
    assert torch.equal(drawn[1], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_next_state_that_is_not_known_never_reaches_the_critic(make_dataset: Make) -> None:
    """At a time limit the critic looks at s', so that a stand-in would teach it a value of the wrong state."""
    terminals, timeouts = np.zeros(20, bool), np.zeros(20, bool)
    terminals[9], timeouts[4] = True, True
    rewards = -np.arange(20.0)
    dataset = make_dataset(20, next_observations=None, terminals=terminals, timeouts=timeouts, rewards=rewards)
    data = mixture(dataset, ratio=1.0, batch_size=1000)
    drawn = {int(-reward) for reward in data.sample(1).rewards[0]}
    assert drawn == set(range(20)) - {4, 19}  # 9 is terminal: its s' is never looked at
