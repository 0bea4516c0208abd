"""Files of d3rlpy 2, which holds each episode in arrays of its own, in HDF5 alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def test_d3rlpy_2(tmp_path: Path, open_log: Open, tiny: Arrays) -> None:
    arrays: Arrays = {"columns": np.bytes_("observations"), "num_episodes": 11, "version": "2.1"}
    for i in range(11):
        arrays[f"observations_{i}"] = np.array([[i], [i + 0.5]], np.float32)
        arrays[f"actions_{i}"] = np.array([[0.5], [-0.5]], np.float32)
        arrays[f"rewards_{i}"] = np.array([[i], [1]], np.float32)
        arrays[f"terminated_{i}"] = i == 10
    log = open_log(arrays, ".h5")
    assert log.episode_ends.tolist() == list(range(2, 24, 2))
    assert log.transitions.observations[::2, 0].tolist() == list(range(11))
    assert log.transitions.terminals.nonzero().flatten().tolist() == [21]
    with h5py.File(tmp_path / "log.h5", "a") as file:
        del file["rewards_3"]
    with pytest.raises(InputError, match="a file of d3rlpy 2 without rewards_3"):
        open_dataset(name=str(tmp_path / "log.h5"), data=DataConfig(), env_id=None, env_kwargs={})


def test_d3rlpy_2_is_the_arrays_it_holds(open_log: Open, same: Callable[..., None]) -> None:
    rng = np.random.default_rng(0)
    obs, act = rng.normal(size=(9, 3)).astype(np.float32), rng.uniform(-1, 1, (9, 2)).astype(np.float32)
    rewards, ends = rng.normal(size=9).astype(np.float32), np.isin(np.arange(9), [3, 8])
    plain = {"observations": obs, "actions": act, "rewards": rewards, "terminals": np.arange(9) == 3, "timeouts": ends}
    expected = open_log({**plain, "timeouts": np.arange(9) == 8})
    arrays: Arrays = {"columns": np.bytes_("observations"), "num_episodes": 2, "version": "2.1"}
    for i, rows in enumerate((slice(0, 4), slice(4, 9))):
        arrays[f"observations_{i}"], arrays[f"actions_{i}"] = obs[rows], act[rows]
        arrays[f"rewards_{i}"], arrays[f"terminated_{i}"] = rewards[rows, None], i == 0
        arrays[f"goals_{i}"], arrays[f"seed_{i}"] = obs[rows], 7
    log = open_log(arrays, ".h5")
    same(log, expected)
    assert "not used: goals [9, 3]" in [finding.text for finding in log.findings]


def test_arrays_in_groups_are_named_and_can_be_mapped(open_log: Open, tiny: Arrays) -> None:
    following = tiny.pop("next_observations")
    arrays = {**tiny, "extra/qpos": np.zeros((6, 4)), "extra/deep/after": following, "extra/few": np.zeros(3)}
    with pytest.raises(InputError, match="extra/deep/after has the shape of the observations") as error:
        open_log(arrays, ".h5")
    assert "extra/few" not in str(error.value)
    log = open_log(arrays, ".h5", columns=ColumnsConfig(next_observation="extra/deep/after"))
    assert log.next_known.all()
    assert "not used: extra/qpos [6, 4]" in [finding.text for finding in log.findings]


def test_groups_that_hold_themselves_are_read_once(tmp_path: Path, tiny: Arrays, open_log: Open) -> None:
    open_log(tiny, ".h5")
    with h5py.File(tmp_path / "log.h5", "a") as file:
        group = file.create_group("again")
        for i in range(100):
            group[f"link {i}"] = group
        group["elsewhere"] = h5py.ExternalLink("/etc/passwd", "x")
    assert len(open_dataset(name=str(tmp_path / "log.h5"), data=DataConfig(), env_id=None, env_kwargs={})) == 6
