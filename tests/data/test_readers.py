"""Files of each format become the same rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.data.readers.hdf5 import read_hdf5
from mopo_pl.data.readers.npz import read_npz
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]

# s, a, s', r, terminal of the tiny log.
TINY_ROWS = [
    [0, -1, 1, 1, 0],
    [1, -0.5, 2, 2, 0],
    [2, 0, 3, 4, 1],
    [10, 0.25, 11, 8, 0],
    [11, 0.5, 12, 16, 0],
    [20, 1, 21, 32, 0],
]


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".h5", ".HDF5"])
def test_a_file_becomes_packed_rows_in_its_own_order(open_log: Open, tiny: Arrays, suffix: str) -> None:
    dataset = open_log(tiny, suffix)
    assert dataset.transitions.rows.tolist() == TINY_ROWS
    assert dataset.transitions.rows.dtype == torch.float32


FINITE = st.floats(-1e6, 1e6, width=32)


@st.composite
def logs(draw: st.DrawFn) -> Arrays:
    rows, obs_dim, action_dim = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    states = hnp.arrays(np.float32, (rows, obs_dim), elements=FINITE)
    flags = hnp.arrays(bool, rows)
    return {
        "observations": draw(states),
        "actions": draw(hnp.arrays(np.float32, (rows, action_dim), elements=st.floats(-1, 1, width=32))),
        "rewards": draw(hnp.arrays(np.float32, rows, elements=FINITE)),
        "terminals": draw(flags),
        "timeouts": draw(flags),
        "next_observations": draw(states),
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logs(), st.sampled_from([".npz", ".hdf5"]))
def test_no_number_is_changed_on_the_way_in(open_log: Open, arrays: Arrays, suffix: str) -> None:
    dataset = open_log(arrays, suffix)
    log = dataset.transitions
    np.testing.assert_array_equal(log.observations, arrays["observations"])
    np.testing.assert_allclose(log.actions, arrays["actions"], atol=1e-7)  # by way of the bounds ±1
    np.testing.assert_array_equal(log.next_observations, arrays["next_observations"])
    np.testing.assert_array_equal(log.rewards, arrays["rewards"])
    np.testing.assert_array_equal(log.terminals, arrays["terminals"])


ALIASES = {
    "observations": ("obs", "observations", "observation"),
    "actions": ("action", "actions"),
    "rewards": ("reward", "rewards"),
    "terminals": (
        *("done", "dones", "terminal", "terminals", "termination", "terminations"),
        *("terminated", "terminateds", "is_terminal"),
    ),
    "next_observations": (
        *("next_obs", "next_observations", "next_observation", "new_obs", "obs_next", "obs2"),
        *("next_state", "next_states"),
    ),
    "timeouts": ("timeout", "timeouts", "truncated", "truncateds", "truncation", "truncations"),
}


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(("field", "alias"), [(field, alias) for field in ALIASES for alias in ALIASES[field]])
def test_fields_are_found_under_each_of_their_names(
    open_log: Open, tiny: Arrays, field: str, alias: str, suffix: str
) -> None:
    tiny["timeouts"][0] = True  # an end that nothing else shows
    dataset = open_log({alias if key == field else key: array for key, array in tiny.items()}, suffix)
    assert dataset.transitions.rows.tolist() == TINY_ROWS
    assert dataset.episode_ends.tolist() == [1, 3, 5, 6]


@pytest.mark.parametrize("field", list(ALIASES))
def test_two_names_for_one_field_are_refused(open_log: Open, tiny: Arrays, field: str) -> None:
    first, second = ALIASES[field][:2]
    array = tiny.pop(field)
    with pytest.raises(InputError, match=rf"log\.npz has {first} and {second}.*the {field}\? Remove the other"):
        open_log({**tiny, first: array, second: array})


def test_neorl2_columns_are_read(open_log: Open) -> None:
    column = np.array([[0], [0], [0], [1]], np.float32)
    dataset = open_log(
        {
            "obs": np.array([[0, 0], [1, 0], [5, 5], [6, 5]], np.float32),
            "action": np.array([[0], [1], [-1], [0]], np.float32),
            "next_obs": np.array([[1, 0], [2, 0], [6, 5], [7, 5]], np.float32),
            "reward": np.array([[1], [2], [3], [4]], np.float32),
            "done": column,
            "truncated": np.array([[0], [1], [0], [0]], np.float32),
        }
    )
    assert dataset.transitions.rows.tolist() == [
        [0, 0, 0, 1, 0, 1, 0],
        [1, 0, 1, 2, 0, 2, 0],
        [5, 5, -1, 6, 5, 3, 0],
        [6, 5, 0, 7, 5, 4, 1],
    ]
    assert dataset.episode_ends.tolist() == [2, 4]
    assert dataset.episode_returns().tolist() == [3, 7]


def test_hdf5_names_its_environment(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file[key] = array
        file.attrs["env_id"], file.attrs["env_kwargs"] = "Walker2d-v5", '{"xml_file": "walker2d.xml"}'
    raw = read_hdf5(path, {})
    assert (raw.env_id, raw.env_kwargs) == ("Walker2d-v5", {"xml_file": "walker2d.xml"})


def test_hdf5_attributes_written_as_bytes_are_text(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file[key] = array
        file.attrs["env_id"], file.attrs["env_kwargs"] = np.bytes_(b"Pendulum-v1"), np.bytes_(b'{"g": 9.81}')
    raw = read_hdf5(path, {})
    assert (raw.env_id, raw.env_kwargs) == ("Pendulum-v1", {"g": 9.81})


def test_files_without_an_environment_are_opened_without_one(open_log: Open, tiny: Arrays) -> None:
    assert open_log(tiny, ".hdf5").env_id is None
    assert open_log(tiny, ".npz").env_id is None


PENDULUM = {
    "observations": np.zeros((4, 3), np.float32),
    "actions": np.array([[-2], [-1], [0], [2]], np.float32),
    "rewards": np.zeros(4, np.float32),
    "terminals": np.zeros(4, bool),
}


def test_the_file_names_the_environment_whose_bounds_scale_its_actions(open_log: Open) -> None:
    dataset = open_log(PENDULUM, ".hdf5", attributes={"env_id": "Pendulum-v1", "env_kwargs": '{"g": 9.81}'})
    assert (dataset.env_id, dataset.env_kwargs) == ("Pendulum-v1", {"g": 9.81})
    assert dataset.transitions.actions.flatten().tolist() == [-1, -0.5, 0, 1]


def test_a_given_environment_replaces_that_of_the_file(open_log: Open) -> None:
    attributes = {"env_id": "NoSuch-v0", "env_kwargs": '{"g": 9.81}'}
    dataset = open_log(PENDULUM, ".hdf5", attributes=attributes, env_id="Pendulum-v1")
    assert (dataset.env_id, dataset.env_kwargs) == ("Pendulum-v1", {})


def test_given_arguments_replace_those_of_the_files_environment(open_log: Open) -> None:
    attributes = {"env_id": "Pendulum-v1", "env_kwargs": '{"g": 9.81}'}
    assert open_log(PENDULUM, ".hdf5", attributes=attributes, env_kwargs={"g": 5.0}).env_kwargs == {"g": 5.0}


@pytest.mark.parametrize("filename", ["halfcheetah_medium-v2.hdf5", "halfcheetah-medium-v2.hdf5"])
def test_d4rl_names_are_looked_up_in_the_d4rl_folder(tmp_path: Path, tiny: Arrays, filename: str) -> None:
    with h5py.File(tmp_path / filename, "w") as file:
        for key, array in tiny.items():
            file[key] = array
    data = DataConfig(d4rl_folder=str(tmp_path))
    dataset = open_dataset(name="halfcheetah-medium-v2", data=data, env_id=None, env_kwargs={})
    assert dataset.transitions.rows.tolist() == TINY_ROWS


def test_long_d4rl_names_keep_their_hyphen_before_the_version(tmp_path: Path, tiny: Arrays) -> None:
    with h5py.File(tmp_path / "hopper_medium_expert-v2.hdf5", "w") as file:
        for key, array in tiny.items():
            file[key] = array
    data = DataConfig(d4rl_folder=str(tmp_path))
    assert len(open_dataset(name="hopper-medium-expert-v2", data=data, env_id=None, env_kwargs={})) == 6


def test_data_source_is_opened_in_place_of_the_name(tmp_path: Path, tiny: Arrays) -> None:
    np.savez(tmp_path / "log.npz", **tiny)
    data = DataConfig(source=str(tmp_path / "log.npz"))
    dataset = open_dataset(name="a name", data=data, env_id=None, env_kwargs={})
    assert (dataset.name, len(dataset)) == ("a name", 6)


def test_readers_keep_what_the_file_calls_its_fields(tmp_path: Path, tiny: Arrays) -> None:
    tiny["done"] = tiny.pop("terminals")
    np.savez(tmp_path / "log.npz", **tiny)
    assert read_npz(tmp_path / "log.npz", {}).key("terminals") == "done"
