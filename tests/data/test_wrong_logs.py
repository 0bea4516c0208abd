"""Wrong or damaged logs end in InputError that says where, what, and how to mend it."""

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def with_value(array: np.ndarray, row: int, value: float) -> np.ndarray:
    changed = array.astype(np.float64)
    changed[row] = value
    return changed


# What replaces which array of the tiny log, and what the message must tell.
WRONG: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], list[str]]] = {
    "too few rewards": ("rewards", lambda x: x[:-1], ["5 rows", "observations has 6"]),
    "too many actions": ("actions", lambda x: np.tile(x, (2, 1)), ["12 rows", "observations has 6"]),
    "too few terminals": ("terminals", lambda x: x[:2], ["2 rows", "observations has 6"]),
    "too few timeouts": ("timeouts", lambda x: x[:2], ["2 rows", "observations has 6"]),
    "too few next states": ("next_observations", lambda x: x[:2], ["2 rows", "observations has 6"]),
    "wider next states": ("next_observations", lambda x: np.tile(x, 2), ["2 columns", "observations has 1"]),
    "flat observations": ("observations", lambda x: x[:, 0], ["shape (6,)", "2 dimensions"]),
    "image observations": ("observations", lambda x: x[:, :, None, None], ["shape (6, 1, 1, 1)", "2 dimensions"]),
    "flat actions": ("actions", lambda x: x[:, 0], ["shape (6,)", "2 dimensions"]),
    "matrix of rewards": ("rewards", lambda x: np.stack([x, x], 1), ["shape (6, 2)", "1 dimension"]),
    "scalar rewards": ("rewards", lambda x: x[0], ["shape ()", "1 dimension"]),
    "scalar observations": ("observations", lambda x: x[0, 0], ["no rows"]),
    "no rows": ("observations", lambda x: x[:0], ["no rows"]),
    "no columns": ("observations", lambda x: x[:, :0], ["no columns"]),
    "no action columns": ("actions", lambda x: x[:, :0], ["no columns"]),
    "NaN state": ("observations", lambda x: with_value(x, 3, np.nan), ["NaN", "1 rows", "row 3", "repair them"]),
    "inf next state": ("next_observations", lambda x: with_value(x, 2, np.inf), ["inf", "row 2", "repair them"]),
    "inf reward": ("rewards", lambda x: with_value(x, 4, -np.inf), ["inf", "row 4", "repair them"]),
    "NaN action": ("actions", lambda x: with_value(x, 5, np.nan), ["NaN", "row 5", "repair them"]),
    "NaN terminal": ("terminals", lambda x: with_value(x, 1, np.nan), ["NaN", "row 1", "repair them"]),
    "reward beyond float32": ("rewards", lambda x: with_value(x, 2, 1e39), ["float32", "row 2", "repair them"]),
    "terminal of 2": ("terminals", lambda x: with_value(x, 4, 2), ["0 or 1", "row 4 is 2.0"]),
    "half a terminal": ("terminals", lambda x: with_value(x, 0, 0.5), ["0 or 1", "row 0 is 0.5"]),
    "timeout of -1": ("timeouts", lambda x: with_value(x, 2, -1), ["0 or 1", "row 2 is -1.0"]),
    "discrete actions": ("actions", lambda x: x.astype(np.int64), ["discrete", "int64", "continuous"]),
    "boolean actions": ("actions", lambda x: x > 0, ["discrete", "bool", "continuous"]),
    "text observations": ("observations", lambda x: x.astype("S4"), ["|S4", "not numbers"]),
    "complex rewards": ("rewards", lambda x: x.astype(complex), ["complex128", "not numbers"]),
    "action out of bounds": (
        "actions",
        lambda x: with_value(x, 1, 1.5),
        ["1 of 6 rows lie outside", "its bounds are -1 to 1", "data.action_low=[-1]", "data.action_high=[1.5]"],
    ),
}


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_arrays_are_refused_by_file_key_and_row(open_log: Open, tiny: Arrays, case: str, suffix: str) -> None:
    key, change, parts = WRONG[case]
    tiny[key] = change(tiny[key])
    with pytest.raises(InputError) as error:
        open_log(tiny, suffix)
    for part in [f"log{suffix}", key, *parts]:
        assert part in str(error.value)


def test_the_message_uses_the_files_own_key(open_log: Open, tiny: Arrays) -> None:
    tiny["done"] = with_value(tiny.pop("terminals"), 1, 3)
    with pytest.raises(InputError, match="done must be 0 or 1; row 1 is 3"):
        open_log(tiny)


def test_all_problems_are_told_at_once(open_log: Open, tiny: Arrays) -> None:
    tiny["rewards"] = with_value(tiny["rewards"], 0, np.nan)
    tiny["terminals"] = with_value(tiny["terminals"], 5, 7)
    with pytest.raises(InputError) as error:
        open_log(tiny)
    first, second = error.value.problems
    assert "rewards" in first
    assert "terminals" in second


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_all_missing_keys_are_named_with_those_that_are_there(open_log: Open, tiny: Arrays, suffix: str) -> None:
    with pytest.raises(InputError) as error:
        open_log({"terminals": tiny["terminals"], "velocity": tiny["rewards"]}, suffix)
    problems = error.value.problems
    assert [
        name for problem in problems for name in ("observations", "actions", "rewards") if f"no {name}" in problem
    ] == [
        "observations",
        "actions",
        "rewards",
    ]
    assert all("velocity" in problem and f"log{suffix}" in problem for problem in problems)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_file_without_arrays_is_refused(open_log: Open, suffix: str) -> None:
    with pytest.raises(InputError, match="no observations"):
        open_log({}, suffix)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_file_of_no_bytes_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.touch()
    refused(path, "cannot be read")


def opened(path: Path) -> OfflineDataset:
    return open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={})


def refused(path: Path, *parts: str, **data: Any) -> None:
    with pytest.raises(InputError) as error:
        open_dataset(name=str(path), data=DataConfig(**data), env_id=None, env_kwargs={})
    for part in (path.name, *parts):
        assert part in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(
    open_log: Open, tiny: Arrays, suffix: str, share: float, tmp_path: Path
) -> None:
    open_log(tiny, suffix)
    path = tmp_path / f"log{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "cannot be read", "damaged")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_bit_in_npz_is_noticed(tmp_path: Path, tiny: Arrays, compressed: bool) -> None:
    path = tmp_path / "log.npz"
    tiny["observations"] = np.random.default_rng(0).standard_normal((6, 100))
    tiny["next_observations"] = tiny["observations"]
    (np.savez_compressed if compressed else np.savez)(path, **tiny)
    content = bytearray(path.read_bytes())
    for position in range(600, 640):
        content[position] ^= 0xFF
    path.write_bytes(content)
    refused(path, "cannot be read", "damaged")


def test_damaged_chunks_in_hdf5_are_noticed(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    noise = np.random.default_rng(0).standard_normal((6, 500))
    with h5py.File(path, "w") as file:
        for key, array in {**tiny, "observations": noise, "next_observations": noise}.items():
            file.create_dataset(key, data=array, compression="gzip", chunks=True, fletcher32=True)
        where = file["observations"].id.get_chunk_info(0)  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    for position in range(where.byte_offset + 10, where.byte_offset + where.size):
        content[position] ^= 0xFF
    path.write_bytes(content)
    refused(path, "cannot be read", "damaged")


def test_a_group_in_place_of_an_array_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file["rewards/extrinsic" if key == "rewards" else key] = array
    refused(path, "rewards is a group")


def test_an_hdf5_array_without_a_shape_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file[key] = h5py.Empty("f4") if key == "rewards" else array
    refused(path, "rewards", "empty")


def test_a_link_to_nowhere_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file[key] = h5py.SoftLink("/gone") if key == "rewards" else array
    refused(path, "cannot be read")


@pytest.mark.parametrize("env_kwargs", ["{not json", "[1, 2]", "null", "7"])
def test_env_kwargs_that_are_no_json_object_are_refused(tmp_path: Path, tiny: Arrays, env_kwargs: str) -> None:
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            file[key] = array
        file.attrs["env_kwargs"] = env_kwargs
    refused(path, "env_kwargs", env_kwargs, "JSON object")


def test_pickled_arrays_are_refused_unopened(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.npz"
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (opened,))

    np.savez(path, **{**tiny, "rewards": np.array([Trap()] * 6, object)})
    refused(path, "rewards", "pickled Python objects")
    assert not opened.exists()


def test_a_member_of_npz_that_is_no_array_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.npz"
    del tiny["rewards"]
    np.savez(path, **tiny)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards", "1 2 4 8")
    refused(path, "rewards", "no array")


def test_a_single_array_named_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    refused(path, "single array", "np.savez")


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_files_of_another_kind_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_text(json.dumps({"observations": [1, 2, 3]}))
    refused(path, "cannot be read")


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_mistyped_file_is_answered_with_the_nearest_one(tmp_path: Path, suffix: str) -> None:
    beside = tmp_path / f"expert{suffix}"
    beside.touch()
    refused(tmp_path / f"expret{suffix}", "no such file", f"did you mean {beside}?")


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere" / "log.npz", "no such file")


def test_a_folder_named_like_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.npz").mkdir()
    refused(tmp_path / "log.npz", "no such file")


def test_an_unknown_suffix_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "log.xlsx"
    path.touch()
    refused(path, ".hdf5", ".h5", ".npz", ".csv", ".parquet")


def test_a_name_of_nothing_is_refused_with_all_that_a_name_may_be() -> None:
    refused(Path("hopper"), "no file", "conf/dataset", "-v0")


def test_an_unknown_collection_is_refused_with_the_one_that_is_known() -> None:
    with pytest.raises(InputError, match="collect:cartpole is not known; there is collect:pendulum"):
        open_dataset(name="x", data=DataConfig(source="collect:cartpole"), env_id=None, env_kwargs={})


BAD_BOUNDS: list[dict[str, Any]] = [
    {"action_low": [-np.inf]},
    {"action_high": [np.nan]},
    {"action_low": [1.0], "action_high": [1.0]},
    {"action_low": [2.0]},
]


@pytest.mark.parametrize("bounds", BAD_BOUNDS)
def test_bounds_that_are_no_interval_are_refused(open_log: Open, tiny: Arrays, bounds: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"log\.npz: actions.*not finite and ascending.*data\.action_low"):
        open_log(tiny, **bounds)


def test_bounds_of_another_dimension_are_refused(open_log: Open, tiny: Arrays) -> None:
    with pytest.raises(InputError, match="actions have 1 dimensions, the bounds 2 and 1"):
        open_log(tiny, action_low=[-1.0, -1.0])


def test_a_log_that_does_not_fit_the_environment_is_refused(open_log: Open, tiny: Arrays) -> None:
    with pytest.raises(
        InputError, match=r"log\.npz: observations has 1 columns, Pendulum-v1 has 3; is it the right env_id"
    ):
        open_log(tiny, env_id="Pendulum-v1")


def test_actions_that_do_not_fit_the_environment_are_refused(open_log: Open, tiny: Arrays) -> None:
    tiny["observations"] = np.zeros((6, 3), np.float32)
    tiny["actions"] = np.zeros((6, 2), np.float32)
    with pytest.raises(InputError, match="actions has 2 columns, Pendulum-v1 has 1"):
        open_log(tiny, env_id="Pendulum-v1")


def test_a_discrete_environment_is_refused(open_log: Open, tiny: Arrays) -> None:
    with pytest.raises(InputError, match="env_id=CartPole-v1 has no Box spaces"):
        open_log(tiny, env_id="CartPole-v1")


def test_a_mistyped_environment_is_answered_with_the_nearest_one(open_log: Open, tiny: Arrays) -> None:
    with pytest.raises(InputError, match=r"did you mean .*Pendulum-v1"):
        open_log(tiny, env_id="Pendlum-v1")


def test_arguments_that_the_environment_does_not_take_are_refused(open_log: Open, tiny: Arrays) -> None:
    with pytest.raises(InputError, match=r"env_kwargs=.*colour.* are not accepted by Pendulum-v1"):
        open_log(tiny, env_id="Pendulum-v1", env_kwargs={"colour": "red"})


class Unbounded(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_an_environment_without_bounds_asks_for_them(open_log: Open, tiny: Arrays) -> None:
    gymnasium.register("Unbounded-v0", entry_point=lambda **_: Unbounded())
    try:
        with pytest.raises(InputError, match=r"not finite and ascending; set data\.action_low and data\.action_high"):
            open_log(tiny, env_id="Unbounded-v0")
        assert len(open_log(tiny, env_id="Unbounded-v0", action_low=[-1.0], action_high=[1.0])) == 6
    finally:
        del gymnasium.registry["Unbounded-v0"]


def test_a_log_that_teaches_nothing_is_refused(open_log: Open, tiny: Arrays) -> None:
    del tiny["next_observations"]
    one = {key: array[:1] for key, array in tiny.items()}
    with pytest.raises(
        InputError, match=r"log\.npz: no row has a known next observation or is terminal; add next_observations"
    ):
        open_log(one)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), compressed=st.booleans())
def test_npz_with_any_one_byte_changed_is_refused_or_read_unchanged(
    tmp_path: Path, tiny: Arrays, place: float, bits: int, compressed: bool
) -> None:
    path = tmp_path / "log.npz"
    (np.savez_compressed if compressed else np.savez)(path, **tiny)
    expected = opened(path).transitions.rows
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= bits
    path.write_bytes(content)
    # States and actions only: a next_observations of another name is no fault of the file's.
    with contextlib.suppress(InputError):
        assert torch.equal(opened(path).transitions.rows[:, :2], expected[:, :2])
