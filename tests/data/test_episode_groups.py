"""Files with a group for each episode, as robomimic and Minari write them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

Arrays = dict[str, Any]
Open = Callable[..., OfflineDataset]
Same = Callable[..., None]


def drawn(lengths: Iterable[int], seed: int = 0) -> list[Arrays]:
    """Episodes whose states follow one another, with one state more than actions."""
    rng = np.random.default_rng(seed)
    return [
        {
            "states": np.cumsum(rng.normal(size=(length + 1, 3)), 0).astype(np.float32),
            "actions": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            "rewards": rng.normal(size=length).astype(np.float32),
        }
        for length in lengths
    ]


def plain(episodes: list[Arrays]) -> Arrays:
    """The same log in one array a field."""
    ends = np.concatenate([np.arange(1, len(each["rewards"]) + 1) == len(each["rewards"]) for each in episodes])
    return {
        "observations": np.concatenate([each["states"][:-1] for each in episodes]),
        "next_observations": np.concatenate([each["states"][1:] for each in episodes]),
        "actions": np.concatenate([each["actions"] for each in episodes]),
        "rewards": np.concatenate([each["rewards"] for each in episodes]),
        "terminals": np.zeros(len(ends), bool),
        "timeouts": ends,
    }


def minari(path: Path, episodes: list[Arrays]) -> None:
    with h5py.File(path, "w") as file:
        for number, each in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            group["observations"], group["actions"], group["rewards"] = (
                each[key] for key in ("states", "actions", "rewards")
            )
            group["terminations"] = np.zeros(len(each["rewards"]), bool)
            group["truncations"] = np.arange(1, len(each["rewards"]) + 1) == len(each["rewards"])
            group["infos/height"] = each["states"][:, 0]


def robomimic(path: Path, episodes: list[Arrays]) -> None:
    with h5py.File(path, "w") as file:
        file["mask/train"] = np.array([b"demo_0"])
        for number, each in enumerate(episodes):
            group = file.create_group(f"data/demo_{number}")
            group["actions"], group["rewards"] = each["actions"], each["rewards"]
            group["dones"] = np.zeros(len(each["rewards"]), np.int64)
            for name, columns in (("arm", slice(0, 1)), ("object", slice(1, 3))):
                group[f"obs/{name}"] = each["states"][:-1, columns]
                group[f"next_obs/{name}"] = each["states"][1:, columns]


def opened(path: Path, **data: Any) -> OfflineDataset:
    return open_dataset(name=str(path), data=DataConfig(**data), env_id=None, env_kwargs={})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=12), seed=st.integers(0, 9))
def test_both_are_the_log_they_hold(tmp_path: Path, open_log: Open, same: Same, lengths: list[int], seed: int) -> None:
    """Eleven and more episodes: `demo_10` comes after `demo_9`."""
    episodes = drawn(lengths, seed)
    expected = open_log(plain(episodes))
    minari(tmp_path / "main_data.hdf5", episodes)
    log = opened(tmp_path / "main_data.hdf5")
    same(log, expected)
    assert log.finished.all()
    robomimic(tmp_path / "demo.hdf5", episodes)
    columns = ColumnsConfig(observation=["obs/*"], next_observation=["next_obs/*"])
    log = opened(tmp_path / "demo.hdf5", columns=columns)
    same(log, expected)
    assert log.names.observations == ("obs/arm 0", "obs/object 0", "obs/object 1")


def test_an_episode_that_lacks_an_array_or_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    robomimic(path, drawn([4, 5, 6]))
    with h5py.File(path, "a") as file:
        del file["data/demo_1/rewards"]
    with pytest.raises(InputError, match="demo_1 has no rewards, though 5 rows of others; data/demo_0 has 4"):
        opened(path)
    with h5py.File(path, "a") as file:
        file["data/demo_1/rewards"] = np.zeros(3)
    with pytest.raises(InputError, match="demo_1 has 3 rows of rewards, though 5 rows of others"):
        opened(path)


def test_episodes_of_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "main_data.hdf5"
    minari(path, drawn([4, 5]))
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = np.zeros((5, 3))
    with pytest.raises(InputError, match="the episodes differ in the shape of actions"):
        opened(path)


def test_what_lacks_is_told_by_the_names_in_the_groups(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    robomimic(path, drawn([4, 5]))
    with pytest.raises(InputError) as error:
        opened(path)
    (problem,) = error.value.problems
    assert "has no observations" in problem
    assert "actions, dones, rewards, obs/arm, obs/object, next_obs/arm, next_obs/object;" in problem
