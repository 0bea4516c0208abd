"""Files that would take memory, read elsewhere, run code, or fill the screen are refused in a sentence."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
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
from mopo_pl.data.readers.pendulum import collect_pendulum
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def refused(name: Path | str, *parts: str, env_id: str | None = None, **data: Any) -> None:
    with pytest.raises(InputError) as error:
        open_dataset(name=str(name), data=DataConfig(**data), env_id=env_id, env_kwargs={})
    for part in parts:
        assert part in str(error.value)
    assert len(str(error.value)) < 2000


def write_hdf5(path: Path, arrays: Arrays, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file.attrs.update(attributes)
    return path


# Sizes


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_a_header_of_npz_that_declares_too_much_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.npz"
    np.savez(path, **{key: array for key, array in tiny.items() if key != "rewards"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", npy_header((2_000_000_000,)) + b"\0" * 24)
    refused(path, "declares arrays of 8.0 GB in a file of", "damaged")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = tmp_path / "log.npz"
    np.savez(path, **tiny)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("noise.npy", "w") as member:
        member.write(npy_header((100_000_000,)))
        for _ in range(100):
            member.write(bytes(4_000_000))
    refused(path, "declares arrays of 400.0 MB in a file of")


def test_shapes_of_hdf5_that_declare_too_much_are_refused(tmp_path: Path, tiny: Arrays) -> None:
    path = write_hdf5(tmp_path / "log.hdf5", tiny)
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_dataset("rewards", (2_000_000_000,), "f4", chunks=True)
    refused(path, "declares arrays of 8.0 GB in a file of")


def test_a_log_of_zeros_that_packs_well_is_read(tmp_path: Path) -> None:
    rows = 200_000
    path = tmp_path / "log.npz"
    arrays = {
        "obs": np.zeros((rows, 20)),
        "action": np.zeros((rows, 2)),
        "reward": np.zeros(rows),
        "done": np.zeros(rows),
    }
    np.savez_compressed(path, **arrays)
    assert len(open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={})) == rows


# Other files


def test_a_link_to_another_hdf5_file_is_not_followed(tmp_path: Path, tiny: Arrays) -> None:
    other = write_hdf5(tmp_path / "other.hdf5", tiny)
    path = write_hdf5(tmp_path / "log.hdf5", {key: tiny[key] for key in tiny if key != "rewards"})
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.ExternalLink(other.name, "rewards")
    refused(path, "rewards lies in another file", "other.hdf5")


def test_external_storage_is_not_read(tmp_path: Path, tiny: Arrays) -> None:
    path = write_hdf5(tmp_path / "log.hdf5", {key: tiny[key] for key in tiny if key != "observations"})
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (6, 1), "f4", external=[("/etc/passwd", 0, 24)])
    refused(path, "observations lies in another file")


def test_a_virtual_dataset_is_not_read(tmp_path: Path, tiny: Arrays) -> None:
    other = write_hdf5(tmp_path / "other.hdf5", tiny)
    path = write_hdf5(tmp_path / "log.hdf5", {key: tiny[key] for key in tiny if key != "rewards"})
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", (6,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("rewards", layout)
    refused(path, "rewards lies in another file")


def test_a_link_within_the_file_is_followed(tmp_path: Path, tiny: Arrays) -> None:
    path = write_hdf5(tmp_path / "log.hdf5", {key: tiny[key] for key in tiny if key != "rewards"})
    with h5py.File(path, "a") as file:
        file["extra/r"] = tiny["rewards"]
        file["rewards"] = h5py.SoftLink("/extra/r")
    log = open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={})
    assert log.transitions.rewards.tolist() == tiny["rewards"].tolist()


WRITER = """
import h5py, sys
with h5py.File(sys.argv[1], "a") as file:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_is_written_elsewhere_is_said_to_be(tmp_path: Path, tiny: Arrays) -> None:
    path = write_hdf5(tmp_path / "log.hdf5", tiny)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        refused(path, "is open for writing in another program")
    finally:
        writer.communicate("")


# Attributes


@pytest.mark.parametrize("env_id", [np.bytes_(b"Pendulum-v1"), np.array(["Pendulum-v1"], "S"), "Pendulum-v1"])
def test_attributes_may_be_bytes_or_arrays_of_one(tmp_path: Path, env_id: Any) -> None:
    zeros = np.zeros((4, 3), np.float32)
    arrays = {"observations": zeros, "actions": zeros[:, :1], "rewards": zeros[:, 0], "terminals": zeros[:, 0]}
    path = write_hdf5(tmp_path / "log.hdf5", arrays, env_id=env_id)
    assert open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={}).env_id == "Pendulum-v1"


def test_an_attribute_that_is_no_text_is_refused(tmp_path: Path, tiny: Arrays) -> None:
    refused(write_hdf5(tmp_path / "log.hdf5", tiny, env_id=np.arange(3)), "attribute env_id must be a text")


@pytest.mark.parametrize(
    "text", ["[" * 5000, '{"a":' * 5000, '{"a": ' + "9" * 5000 + "}"], ids=["list", "map", "digits"]
)
def test_env_kwargs_too_deep_or_long_are_refused(tmp_path: Path, tiny: Arrays, text: str) -> None:
    refused(write_hdf5(tmp_path / "log.hdf5", tiny, env_kwargs=text), "must be a JSON object")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file when it is imported."""
    (tmp_path / "trap_of_a_test.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "sprung"


def test_an_environment_of_a_module_is_not_imported_for_a_file(tmp_path: Path, tiny: Arrays, trap: Path) -> None:
    path = write_hdf5(tmp_path / "log.hdf5", tiny, env_id="trap_of_a_test:Trap-v0")
    refused(path, "would import the module trap_of_a_test", "env_id=none")
    open_dataset(name=str(path), data=DataConfig(), env_id="none", env_kwargs={})
    assert not trap.exists()
    refused(path, "env_id=trap_of_a_test:Trap-v0", env_id="trap_of_a_test:Trap-v0")
    assert trap.exists()


@pytest.mark.parametrize("bound", [1e39, 1e300, np.inf])
def test_bounds_beyond_float32_are_refused(open_log: Open, tiny: Arrays, bound: float) -> None:
    with pytest.raises(InputError, match="not finite and ascending"):
        open_log(tiny, action_low=[-bound], action_high=[bound])


# Minari


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty for each test."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


BOX = gymnasium.spaces.Box(-9, 9, (1,), np.float32)


def create(name: str, space: gymnasium.Space = BOX, **changes: Any) -> None:
    """A dataset of one step, with entries of its metadata replaced, or removed by None."""
    shape = space.shape or ()
    made = EpisodeBuffer(
        id=0,
        observations=[np.zeros(shape, space.dtype)] * 2,
        actions=[np.zeros(1, np.float32)],
        rewards=[0.0],
        terminations=[False],
        truncations=[True],
    )
    minari.create_dataset_from_buffers(name, buffer=[made], observation_space=space, action_space=BOX)
    path = Path(os.environ["MINARI_DATASETS_PATH"]) / name / "data" / "metadata.json"
    metadata = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


def spec(env_id: str, entry_point: str) -> str:
    gymnasium.register("Spec-v0", entry_point="nowhere:Env")
    try:
        fields = json.loads(gymnasium.spec("Spec-v0").to_json())
    finally:
        del gymnasium.registry["Spec-v0"]
    return json.dumps({**fields, "id": env_id, "entry_point": entry_point})


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari wants an author of every dataset


def test_a_module_of_a_minari_spec_is_not_imported(store: Path, trap: Path) -> None:
    create("test/id-v0", env_spec=spec("trap_of_a_test:Trap-v0", "nowhere:Env"))
    refused("test/id-v0", "would import the module trap_of_a_test")
    create("test/entry-v0", env_spec=spec("Trap-v0", "trap_of_a_test:Trap"), observation_space=None)
    refused("test/entry-v0", "does not store its spaces", env_id="none")
    assert not trap.exists()


def test_stacked_frames_are_refused(store: Path) -> None:
    create("test/frames-v0", gymnasium.spaces.Box(0, 255, (4, 8, 8), np.uint8))
    refused("test/frames-v0", "observations are images [4, 8, 8]")


def test_a_data_folder_of_another_program_is_no_dataset(store: Path) -> None:
    (store / "foo-v0" / "data").mkdir(parents=True)
    refused("foo-v0", "is damaged, or no dataset")
    (store / "bar" / "data").mkdir(parents=True)
    assert collect_pendulum(20, 0) == "mopo_pl/pendulum-20-s0-v0"


@pytest.mark.parametrize("path", ["", "relative/store"])
def test_a_store_without_a_full_path_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", path)
    refused("test/any-v0", "MINARI_DATASETS_PATH", "full path")


def test_a_store_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    refused("collect:pendulum", "cannot be", source="collect:pendulum", collect_steps=20)


def test_a_damaged_pendulum_log_is_collected_again(store: Path) -> None:
    name = collect_pendulum(20, 0)
    (data,) = store.rglob("main_data.hdf5")
    data.write_bytes(data.read_bytes()[:1000])
    assert collect_pendulum(20, 0) == name
    assert len(open_dataset(name=name, data=DataConfig(), env_id=None, env_kwargs={})) == 20


def test_what_a_killed_collection_left_is_removed(store: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned, running = store / f".collecting-{ended.pid}-x", store / f".collecting-{os.getpid()}-y"
    for folder in (abandoned, running):
        folder.mkdir(parents=True)
    collect_pendulum(20, 0)
    assert (abandoned.exists(), running.exists()) == (False, True)


def test_a_d4rl_name_is_said_to_be_missing_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", unreachable)
    refused("pen-v0", "pen-v0: no pen-v0.hdf5 is in data.d4rl_folder")
