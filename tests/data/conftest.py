"""Logs as files: a tiny one that can be checked by hand, and what writes and opens any."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset

Arrays = dict[str, Any]


@pytest.fixture
def tiny() -> Arrays:
    """Three episodes of 3, 2 and 1 rows: a terminal one, one cut by a time limit, one cut by the file's end.

    What follows the last row of an episode (3, 12, 21) is no row of the file.
    """
    return {
        "observations": np.array([[0], [1], [2], [10], [11], [20]], np.float32),
        "actions": np.array([[-1], [-0.5], [0], [0.25], [0.5], [1]], np.float32),
        "next_observations": np.array([[1], [2], [3], [11], [12], [21]], np.float32),
        "rewards": np.array([1, 2, 4, 8, 16, 32], np.float32),
        "terminals": np.array([0, 0, 1, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1, 0], bool),
    }


def write_log(path: Path, arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """As the suffix says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file.attrs.update(attributes)


@pytest.fixture
def open_log(tmp_path: Path) -> Callable[..., OfflineDataset]:
    """Writes arrays to `log<suffix>` and opens that; further keywords are fields of `DataConfig`."""

    def opened(
        arrays: Mapping[str, Any],
        suffix: str = ".npz",
        *,
        attributes: Mapping[str, Any] | None = None,
        env_id: str | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> OfflineDataset:
        path = tmp_path / f"log{suffix}"
        write_log(path, arrays, attributes or {})
        return open_dataset(name=str(path), data=DataConfig(**data), env_id=env_id, env_kwargs=env_kwargs or {})

    return opened


@pytest.fixture
def same() -> Callable[[OfflineDataset, OfflineDataset], None]:
    """Fails unless two logs are learned from alike: rows, ends, and which next states are true."""

    def compare(log: OfflineDataset, expected: OfflineDataset) -> None:
        assert log.transitions.rows.tolist() == expected.transitions.rows.tolist()
        for name in ("episode_ends", "finished", "next_known"):
            assert getattr(log, name).tolist() == getattr(expected, name).tolist(), name
        assert log.hash == expected.hash

    return compare
