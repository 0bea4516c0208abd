"""The log that is collected on first use."""

import os
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.data.readers.pendulum import collect_pendulum, pendulum_id

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari wants an author of every dataset


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty for each test."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


def collected(**data: Any) -> OfflineDataset:
    return open_dataset(name="pendulum", data=DataConfig(source="collect:pendulum", **data), env_id=None, env_kwargs={})


def test_the_default_log_is_mediocre_and_diverse() -> None:
    dataset = collected()
    returns = dataset.episode_returns()
    assert (len(dataset), len(returns)) == (20_000, 100)
    assert -1100 < returns.mean() < -700
    assert returns.min() < -1200
    assert returns.max() > -400
    angles = np.arctan2(*dataset.transitions.observations[:, [1, 0]].T.numpy())
    assert np.histogram(angles, 12, (-np.pi, np.pi))[0].min() > 100  # every part of the circle is visited
    assert not dataset.transitions.terminals.any()
    assert dataset.env_id == "Pendulum-v1"
    assert (dataset.action_low.tolist(), dataset.action_high.tolist()) == ([-2], [2])


def test_logged_rewards_are_those_of_the_logged_states_and_actions() -> None:
    log = collected(collect_steps=400).transitions
    cosine, sine, speed = log.observations.double().T.numpy()
    torque = 2 * log.actions[:, 0].double().numpy()
    expected = -(np.arctan2(sine, cosine) ** 2 + 0.1 * speed**2 + 0.001 * torque**2)
    np.testing.assert_allclose(log.rewards, expected, atol=1e-4)


def test_logged_next_states_obey_the_pendulums_equation() -> None:
    log = collected(collect_steps=400).transitions
    sine, speed = log.observations[:, 1].double(), log.observations[:, 2].double()
    torque = 2 * log.actions[:, 0].double()
    expected = (speed + (15 * sine + 3 * torque) * 0.05).clip(-8, 8)
    np.testing.assert_allclose(log.next_observations[:, 2], expected, atol=1e-4)


def test_steps_that_fill_no_whole_episode_shorten_the_last() -> None:
    dataset = collected(collect_steps=450)
    assert dataset.episode_lengths().tolist() == [200, 200, 50]


def test_the_same_seed_gives_the_same_log_and_another_seed_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / folder))
        hashes.append(collected(collect_steps=300, collect_seed=seed).hash)
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_a_log_that_is_there_is_not_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = collected(collect_steps=300)
    monkeypatch.setattr("mopo_pl.data.readers.pendulum._episodes", lambda *_: pytest.fail("collected again"))
    assert collected(collect_steps=300).hash == first.hash


def files(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file()]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_collection_leaves_nothing_and_the_next_one_works(
    store: Path, monkeypatch: pytest.MonkeyPatch, interruption: Any
) -> None:
    create = minari.create_dataset_from_buffers

    def interrupted(*args: Any, **kwargs: Any) -> None:
        create(*args, **kwargs)
        raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(minari, "create_dataset_from_buffers", interrupted)
        with pytest.raises(interruption if isinstance(interruption, type) else OSError):
            collect_pendulum(300, 0)
    assert files(store) == []
    assert os.environ["MINARI_DATASETS_PATH"] == str(store)
    assert len(collected(collect_steps=300)) == 300


def test_what_a_killed_collection_left_is_no_dataset_and_in_nobodys_way(store: Path) -> None:
    half = store / ".collecting-killed" / pendulum_id(300, 0) / "data"
    half.mkdir(parents=True)
    (half / "main_data.hdf5").write_bytes(b"half")
    assert minari.list_local_datasets() == {}
    assert len(collected(collect_steps=300)) == 300


def test_two_collections_at_once_end_in_one_log(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    create = minari.create_dataset_from_buffers

    def overtaken(*args: Any, **kwargs: Any) -> None:
        """While this one writes, another process begins and finishes the same log."""
        aside = os.environ["MINARI_DATASETS_PATH"]
        monkeypatch.setattr(minari, "create_dataset_from_buffers", create)
        os.environ["MINARI_DATASETS_PATH"] = str(store)
        collect_pendulum(300, 0)
        os.environ["MINARI_DATASETS_PATH"] = aside
        create(*args, **kwargs)

    monkeypatch.setattr(minari, "create_dataset_from_buffers", overtaken)
    assert len(collected(collect_steps=300)) == 300
    assert list(minari.list_local_datasets()) == [pendulum_id(300, 0)]
    assert [path.name for path in store.iterdir() if path.name.startswith(".")] == []


def test_without_a_store_of_ones_own_none_is_set_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    name = collect_pendulum(200, 0)
    assert "MINARI_DATASETS_PATH" not in os.environ
    assert (tmp_path / ".minari" / "datasets" / name / "data").is_dir()
