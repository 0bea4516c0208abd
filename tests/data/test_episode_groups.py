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


def changed(path: Path, **arrays: Any) -> None:
    """Replace arrays of the second episode; None removes one."""
    with h5py.File(path, "a") as file:
        group = file["data/demo_1" if "data" in file else "episode_1"]
        assert isinstance(group, h5py.Group)
        for key, array in arrays.items():
            if key in group:
                del group[key]
            if array is not None:
                group[key] = array


@pytest.mark.parametrize("rows", [None, 3, 6])
def test_an_episode_that_lacks_rewards_is_named(tmp_path: Path, rows: int | None) -> None:
    path = tmp_path / "demo.hdf5"
    robomimic(path, drawn([4, 5, 6]))
    changed(path, rewards=None if rows is None else np.zeros(rows))
    with pytest.raises(InputError, match=f"data/demo_1 has {rows or 0} rows of rewards, and 5 of actions"):
        opened(path)


def test_flags_with_one_more_than_actions_are_refused(tmp_path: Path) -> None:
    """Which of the five belongs to no step is not known."""
    path = tmp_path / "main_data.hdf5"
    minari(path, drawn([4]))
    with h5py.File(path, "a") as file:
        del file["episode_0/terminations"]
        file["episode_0/terminations"] = np.arange(5) == 4
    with pytest.raises(InputError, match="episode_0 has 5 rows of terminations, and 4 of actions"):
        opened(path)


@pytest.mark.parametrize("actions", [np.zeros((5, 3)), np.zeros(5, [("a", "f4"), ("b", "f4")])])
def test_episodes_of_other_columns_are_refused(tmp_path: Path, actions: np.ndarray) -> None:
    path = tmp_path / "main_data.hdf5"
    minari(path, drawn([4, 5]))
    changed(path, actions=actions)
    with pytest.raises(InputError, match="the episodes differ in the type or the columns of actions"):
        opened(path)


def test_what_follows_no_steps_is_left_out(tmp_path: Path, open_log: Open, same: Same) -> None:
    """A goal of three numbers, a further array with one row more, an episode of no steps, and two groups of one number."""
    episodes = drawn([3, 5])
    expected = open_log(plain(episodes))
    path = tmp_path / "main_data.hdf5"
    minari(path, episodes)
    with h5py.File(path, "a") as file:
        for number in range(2):
            file[f"episode_{number}/goal"] = np.zeros(3)
            file[f"episode_{number}/states"] = np.zeros((len(episodes[number]["rewards"]) + 1, 9))
        for key in ("actions", "rewards", "terminations", "truncations"):
            file[f"episode_2/{key}"] = np.zeros((0, 2) if key == "actions" else 0)
        file.move("episode_1", "episode_00")
    same(opened(path), expected)


def test_arrays_outside_numbered_groups_are_read_as_before(tmp_path: Path, open_log: Open, same: Same) -> None:
    log = plain(drawn([4, 5]))
    expected = open_log(log)
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in log.items():
            file[f"run1/{key}" if key == "observations" else key] = array
    same(opened(path, columns=ColumnsConfig(observation="run1/observations")), expected)
    with h5py.File(path, "w") as file:
        for key, array in log.items():
            file[f"run1/{key}"] = array
    columns = {"observation": "observations", "action": "actions", "reward": "rewards", "terminal": "terminals"}
    columns |= {"next_observation": "next_observations", "truncated": "timeouts"}
    same(opened(path, columns=ColumnsConfig(**{key: f"run1/{name}" for key, name in columns.items()})), expected)


def test_the_groups_below_a_numbered_folder_are_the_episodes(tmp_path: Path, open_log: Open, same: Same) -> None:
    episodes = drawn([4, 5])
    expected = open_log(plain(episodes))
    minari(tmp_path / "plain.hdf5", episodes)
    with h5py.File(tmp_path / "plain.hdf5") as source, h5py.File(tmp_path / "nested.hdf5", "w") as file:
        for name in source:
            source.copy(name, file, f"run_2023/{name}")
    same(opened(tmp_path / "nested.hdf5"), expected)


@pytest.mark.parametrize("actions", [None, h5py.Empty("f4"), 3.0])
def test_a_group_without_rows_of_actions_is_named(tmp_path: Path, actions: Any) -> None:
    path = tmp_path / "demo.hdf5"
    robomimic(path, drawn([4, 5]))
    changed(path, actions=actions)
    with pytest.raises(InputError, match="data/demo_1 has no rows of actions"):
        opened(path)


def test_groups_of_two_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("train/episode_0", "train/episode_1", "test/episode_0"):
            file[f"{name}/actions"] = np.zeros((3, 2))
    with pytest.raises(InputError, match="groups of several kinds, such as test/episode_0, train/episode_1"):
        opened(path)


def test_numbers_anywhere_in_a_name_and_further_arrays_at_the_top_are_read(
    tmp_path: Path, open_log: Open, same: Same
) -> None:
    episodes = drawn([4, 5, 3])
    expected = open_log(plain(episodes))
    minari(tmp_path / "plain.hdf5", episodes)
    with h5py.File(tmp_path / "plain.hdf5") as source, h5py.File(tmp_path / "named.hdf5", "w") as file:
        for name, new in zip(source, ("run_9_2000", "run_10_1000", "run_10_3000"), strict=True):
            source.copy(name, file, new)
        file["timesteps"] = np.arange(12)
    same(opened(tmp_path / "named.hdf5"), expected)


def test_an_array_that_the_first_episode_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "main_data.hdf5"
    minari(path, drawn([4, 5]))
    with h5py.File(path, "a") as file:
        del file["episode_0/terminations"]
    with pytest.raises(InputError, match="episode_0 has 0 rows of terminations, and 4 of actions"):
        opened(path)


@pytest.mark.parametrize("name", ["9" * 20_000 + "x", "9" * 20_000, "a/b1/" * 50 + "c"])
def test_names_of_any_length_end_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        file[f"{name}/actions"] = np.zeros((3, 2))
    with pytest.raises(InputError):
        opened(path)


def test_declared_rows_without_columns_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("episode_0/actions", (10**13, 0), np.float32)
        file.create_dataset("episode_0/rewards", (10**13, 0), np.float32)
    with pytest.raises(InputError):
        opened(path)


def test_what_lacks_is_told_by_the_names_in_the_groups(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    robomimic(path, drawn([4, 5]))
    with pytest.raises(InputError) as error:
        opened(path)
    (problem,) = error.value.problems
    assert "has no observations" in problem
    assert "actions, dones, rewards, obs/arm, obs/object, next_obs/arm, next_obs/object, episode_ends;" in problem
    robomimic(path, [{**each, "actions": each["actions"]} for each in drawn([4, 5])])
    with h5py.File(path, "a") as file:
        for number in range(2):
            file.move(f"data/demo_{number}/actions", f"data/demo_{number}/torque")
    with pytest.raises(
        InputError, match="no actions in data/demo_0: none of action, actions, act among dones, rewards, torque"
    ):
        opened(path)
