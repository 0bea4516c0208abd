"""What looks like a mistake in a log is said; what does not, is not."""

from collections.abc import Callable

import numpy as np

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor import warnings_about

Make = Callable[..., OfflineDataset]


def test_an_ordinary_log_raises_no_doubt(make_dataset: Make) -> None:
    assert list(warnings_about(make_dataset())) == []


def test_terminals_at_one_length_look_like_a_time_limit(make_dataset: Make) -> None:
    every_50 = np.arange(1, 401) % 50 == 0
    (doubt,) = warnings_about(make_dataset(terminals=every_50, timeouts=None))
    assert doubt.startswith("all 8 terminal episodes last 50 steps")


def test_terminals_at_several_lengths_do_not(make_dataset: Make) -> None:
    uneven = np.isin(np.arange(400), [30, 90, 180, 270, 399])
    assert list(warnings_about(make_dataset(terminals=uneven, timeouts=None))) == []


def test_a_long_log_without_an_end_is_doubted(make_dataset: Make) -> None:
    (doubt,) = warnings_about(make_dataset(rows=1000, timeouts=None, next_observations=None))
    assert doubt.startswith("no end of an episode is marked in 1000 rows")


def test_columns_and_rewards_that_never_change_are_named(make_dataset: Make) -> None:
    observations = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    observations[:, 1] = 7.0
    log = make_dataset(observations=observations, next_observations=None, rewards=np.zeros(400, np.float32))
    assert list(warnings_about(log)) == [
        "observation columns [1] never change",
        "every reward is 0: nothing can be learned from them",
    ]
