"""Files of d3rlpy 2, which holds each episode in arrays of its own, in HDF5 alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.opening import open_dataset
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
