"""Minari datasets, made here and read back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari wants an author of every dataset

BOX = gymnasium.spaces.Box(-100, 100, (1,), np.float32)
TORQUE = gymnasium.spaces.Box(-2, 3, (1,), np.float32)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty for each test."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


def episode(
    number: int, states: Sequence[Any], actions: Sequence[Any], *, terminal: bool, truncated: bool
) -> EpisodeBuffer:
    steps = len(actions)
    return EpisodeBuffer(
        id=number,
        observations=[np.array(state, np.float32) for state in states],
        actions=[np.array(action) for action in actions],
        rewards=[10.0 * number + step for step in range(steps)],
        terminations=[False] * (steps - 1) + [terminal],
        truncations=[False] * (steps - 1) + [truncated],
    )


def create(name: str, episodes: list[EpisodeBuffer], **spaces: Any) -> None:
    if "env" not in spaces:
        spaces = {"observation_space": BOX, "action_space": TORQUE, **spaces}
    minari.create_dataset_from_buffers(name, buffer=episodes, **spaces)


def opened(name: str, **data: Any) -> OfflineDataset:
    return open_dataset(name=name, data=DataConfig(**data), env_id=None, env_kwargs={})


EPISODES = [
    episode(
        0, [[0], [1], [2]], [np.array([-2], np.float32), np.array([3], np.float32)], terminal=True, truncated=False
    ),
    episode(
        1, [[10], [11], [12]], [np.array([0.5], np.float32), np.array([3], np.float32)], terminal=False, truncated=True
    ),
    episode(2, [[20], [21]], [np.array([-2], np.float32)], terminal=False, truncated=False),
    episode(3, [[30], [31]], [np.array([-2], np.float32)], terminal=False, truncated=True),
]


def test_episodes_are_flattened_with_their_own_last_states_and_scaled_actions() -> None:
    create("test/round-v0", EPISODES)
    dataset = opened("test/round-v0")
    assert dataset.transitions.rows.tolist() == [
        [0, -1, 1, 0, 0],
        [1, 1, 2, 1, 1],
        [10, 0, 11, 10, 0],
        [11, 1, 12, 11, 0],
        [20, -1, 21, 20, 0],
        [30, -1, 31, 30, 0],
    ]
    assert dataset.next_known.all()
    assert (dataset.action_low.tolist(), dataset.action_high.tolist()) == ([-2], [3])


def test_an_episode_that_merely_stops_ends_there_without_being_terminal() -> None:
    create("test/stops-v0", EPISODES)
    dataset = opened("test/stops-v0")
    assert dataset.episode_ends.tolist() == [2, 4, 5, 6]
    assert dataset.episode_returns().tolist() == [1, 21, 20, 30]


def test_given_bounds_go_before_the_datasets() -> None:
    create("test/bounds-v0", EPISODES)
    assert opened("test/bounds-v0", action_low=[-4.0], action_high=[4.0]).transitions.actions[0].tolist() == [-0.5]


def test_the_environment_of_the_dataset_is_taken_with_its_arguments() -> None:
    states = np.zeros((2, 3))
    made = episode(0, list(states), [np.array([2], np.float32)], terminal=False, truncated=True)
    create("test/env-v0", [made], env=gymnasium.make("Pendulum-v1", g=9.81))
    dataset = opened("test/env-v0")
    assert (dataset.env_id, dataset.env_kwargs) == ("Pendulum-v1", {"g": 9.81})


def test_the_datasets_bounds_go_before_its_environments() -> None:
    made = episode(0, list(np.zeros((2, 3))), [np.array([2], np.float32)], terminal=False, truncated=True)
    space = gymnasium.spaces.Box(-4, 4, (1,), np.float32)
    create("test/wide-v0", [made], env="Pendulum-v1", action_space=space)  # whose own bounds are ±2
    assert opened("test/wide-v0").transitions.actions.tolist() == [[0.5]]


def test_a_dataset_without_an_environment_is_opened_without_one() -> None:
    create("test/free-v0", EPISODES)
    assert opened("test/free-v0").env_id is None


def test_observations_and_actions_of_several_dimensions_are_flattened() -> None:
    space = gymnasium.spaces.Box(-1, 1, (2, 2), np.float32)
    matrix = np.array([[0.5, 0.25], [0, -1]], np.float32)
    made = episode(0, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], [matrix], terminal=False, truncated=True)
    wide = gymnasium.spaces.Box(-9, 9, (2, 2), np.float32)
    create("test/matrix-v0", [made], observation_space=wide, action_space=space)
    assert opened("test/matrix-v0").transitions.rows.tolist() == [[1, 2, 3, 4, 0.5, 0.25, 0, -1, 5, 6, 7, 8, 0, 0]]


def empty_episodes(store: Path, *numbers: int) -> None:
    """Takes all steps from episodes, which Minari reads but does not write."""
    (path,) = store.rglob("main_data.hdf5")
    with h5py.File(path, "a") as file:
        for number in numbers:
            group = file[f"episode_{number}"]
            assert isinstance(group, h5py.Group)
            for key, keep in {
                "observations": 1,
                "actions": 0,
                "rewards": 0,
                "terminations": 0,
                "truncations": 0,
            }.items():
                values = np.asarray(group[key])[:keep]
                del group[key]
                group[key] = values
            group.attrs["total_steps"] = 0


def test_an_episode_without_steps_adds_no_rows(store: Path) -> None:
    create("test/empty-v0", EPISODES)
    empty_episodes(store, 1)
    dataset = opened("test/empty-v0")
    assert dataset.transitions.observations.flatten().tolist() == [0, 1, 20, 30]
    assert dataset.episode_ends.tolist() == [2, 3, 4]


def test_a_dataset_without_steps_is_refused(store: Path) -> None:
    create("test/nothing-v0", EPISODES)
    empty_episodes(store, 0, 1, 2, 3)
    refused("test/nothing-v0", "no episodes of at least one step")


def refused(name: str, *parts: str, **data: Any) -> None:
    with pytest.raises(InputError) as error:
        opened(name, **data)
    for part in (name, *parts):
        assert part in str(error.value)


def test_a_dataset_without_episodes_is_refused() -> None:
    create("test/none-v0", [])
    refused("test/none-v0", "no episodes")


def test_discrete_actions_are_refused() -> None:
    made = episode(0, [[0], [1]], [np.int64(1)], terminal=False, truncated=True)
    create("test/discrete-v0", [made], action_space=gymnasium.spaces.Discrete(2))
    refused("test/discrete-v0", "actions are a Discrete space", "Box")


def test_discrete_observations_are_refused() -> None:
    made = EpisodeBuffer(
        id=0,
        observations=[np.int64(0), np.int64(1)],
        actions=[np.array([0], np.float32)],
        rewards=[0.0],
        terminations=[False],
        truncations=[True],
    )
    create("test/states-v0", [made], observation_space=gymnasium.spaces.Discrete(2))
    refused("test/states-v0", "observations are a Discrete space", "Box")


def test_infinite_action_bounds_ask_for_finite_ones() -> None:
    create("test/infinite-v0", EPISODES, action_space=gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32))
    refused("test/infinite-v0", "not finite", "data.action_low")
    assert len(opened("test/infinite-v0", action_low=[-2.0], action_high=[3.0])) == 6


def test_damaged_data_are_refused(store: Path) -> None:
    create("test/damaged-v0", EPISODES)
    (path,) = store.rglob("main_data.hdf5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused("test/damaged-v0", "damaged")


def test_data_that_are_gone_are_refused(store: Path) -> None:
    create("test/gone-v0", EPISODES)
    (path,) = store.rglob("main_data.hdf5")
    path.unlink()
    refused("test/gone-v0")


def test_a_dataset_that_is_nowhere_is_refused_with_where_it_was_looked_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", unreachable)
    refused("mujoco/hopper/medium-v0", "neither a file", str(store), "no network", "give a file")


def test_a_dataset_of_the_store_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("downloaded")

    create("test/local-v0", EPISODES)
    monkeypatch.setattr("minari.storage.hosting.download_dataset", forbidden)
    assert len(opened("test/local-v0")) == 6
