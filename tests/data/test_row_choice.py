"""Which rows of a file are used: `data.max_rows` and `data.drop_time_limits`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.dynamics.bootstrap import EnsembleDataModule

Open = Callable[..., OfflineDataset]


@pytest.fixture
def opened(npz_log: Path, tmp_path: Path) -> Open:
    """The log of 400 rows in episodes of 50, with arrays replaced or left out (None), as these settings open it."""

    def read(arrays: dict[str, Any] | None = None, **settings: Any) -> OfflineDataset:
        kept = {name: array for name, array in {**np.load(npz_log), **(arrays or {})}.items() if array is not None}
        np.savez(tmp_path / "changed.npz", allow_pickle=False, **kept)
        return open_dataset(name=str(tmp_path / "changed.npz"), data=DataConfig(**settings), env_id=None, env_kwargs={})

    return read


def used(dataset: OfflineDataset) -> tuple[int, int]:
    """Rows that the ensemble and the policy learn from."""
    samples = EnsembleDataModule(
        dataset, members=1, batch_size=8, updates_per_step=1, holdout_fraction=0.2, holdout_max=1000, seed=0
    )
    batches = OfflineDataModule(
        dataset,
        batch_size=8,
        real_ratio=1.0,
        updates_per_epoch=1,
        updates_per_step=1,
        retain=1,
        capacity=0,
        refresh_folder=None,
        seed=0,
    )
    return len(samples.train) + len(samples.holdout), len(batches.log_rows)


def test_rows_at_time_limits_can_be_left_out_of_both_stages(opened: Open) -> None:
    assert used(opened()) == (400, 400)
    dataset = opened(drop_time_limits=True)
    assert used(dataset) == (392, 392)
    assert torch.equal((~dataset.next_known).nonzero().squeeze(-1), torch.arange(49, 400, 50))


def test_terminal_rows_are_kept_by_both(opened: Open) -> None:
    """Three of the eight last rows are terminal, not limited."""
    last = np.arange(1, 401) % 50 == 0
    terminals = last & (np.arange(400) < 150)
    dataset = opened({"terminals": terminals, "timeouts": last & ~terminals}, drop_time_limits=True)
    assert used(dataset) == (395, 395)


def test_limits_that_the_user_states_are_limits(opened: Open) -> None:
    """Episodes of 50 rows cut at 20: two limits in each, and a rest of 10 rows, whose end the file marks or does not."""
    assert used(opened(time_limit=20, drop_time_limits=True)) == (400 - 24, 400 - 24)


def test_dropping_changes_neither_rows_nor_returns(opened: Open) -> None:
    plain, dropped = opened(), opened(drop_time_limits=True)
    assert plain.hash == dropped.hash
    assert torch.equal(plain.episode_returns(), dropped.episode_returns())


def test_the_last_rows_of_a_file_are_kept(opened: Open) -> None:
    whole, part = opened(), opened(max_rows=130)
    assert len(part) == 130
    assert torch.equal(part.transitions.rows, whole.transitions.rows[270:])
    assert part.episode_ends.tolist() == [30, 80, 130]
    assert part.hash != whole.hash
    assert torch.equal(opened(max_rows=400).transitions.rows, whole.transitions.rows)
    assert opened(max_rows=10_000).hash == whole.hash


def test_an_episode_whose_beginning_is_left_out_is_not_whole(opened: Open) -> None:
    """Else its return counts as one of an episode, and its first row as a state in which episodes begin."""
    assert opened(max_rows=130).finished.tolist() == [False, True, True]
    assert opened(max_rows=100).finished.tolist() == [True, True]
    assert opened(max_rows=400).finished.all()
    part = opened(max_rows=130)
    assert torch.equal(part.episode_returns(), opened().episode_returns()[-2:])


def test_time_limits_fall_where_they_fall_in_the_whole_file(opened: Open) -> None:
    """400 rows without marks in episodes of 100, of which the last 250 are kept."""
    unmarked = {"timeouts": None, "terminals": np.zeros(400), "next_observations": None}
    assert opened(unmarked, time_limit=100).episode_ends.tolist() == [100, 200, 300, 400]
    part = opened(unmarked, time_limit=100, max_rows=250)
    assert part.episode_ends.tolist() == [50, 150, 250]
    assert part.finished.tolist() == [False, True, True]


def test_ends_that_a_file_marks_by_episodes_are_cut_along(opened: Open) -> None:
    episodes = np.arange(400) // 40
    part = opened({"timeouts": None, "next_observations": None, "episode_id": episodes}, max_rows=100)
    assert part.episode_ends.tolist() == [20, 60, 100]
    assert (~part.next_known).nonzero().squeeze(-1).tolist() == [19, 59, 99]
