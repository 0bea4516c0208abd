"""Files that look like 10 GB, and what is no file at all, in the place of those of a run or a log."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.cached_dataset import key_of
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.terminals.rule import load_rule
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.run.files.metrics_file import MetricsFile
from mopo_pl.storage.buffer_files import RefreshFiles
from mopo_pl.storage.checkpoints import CheckpointFiles, ChecksummedCheckpointIO
from mopo_pl.storage.run_records import read_estimates, read_record, read_result, read_rows

HUGE = 10**10


@contextmanager
def at_once() -> Iterator[None]:
    """A second of processor time: reading the file would take ten."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 1


def grown(path: Path) -> Path:
    """The file with holes behind its content, or of holes alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.truncate(HUGE)
    return path


READERS: dict[str, Callable[[Path], object]] = {
    "config.yaml": lambda run: compose([f"resume={run}"]),
    "result.json": read_result,
    "estimates.json": read_estimates,
    "provenance.json": lambda run: read_record(run / "provenance.json"),
    "metrics.jsonl": lambda run: list(read_rows(run / "metrics.jsonl")),
    "policy/policy.json": Policy.load,
    "policy/policy.safetensors": Policy.load,
    "dynamics.json": load_model,
    "dynamics.safetensors": load_model,
    "termination.json": load_rule,
    "termination.safetensors": load_rule,
}


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize("kind", ["holes", "pipe", "folder"])
def test_a_file_of_a_run_that_is_none_is_refused_at_once(run: Path, file: str, kind: str) -> None:
    if kind == "holes":
        grown(run / file)
    else:
        (run / file).unlink(missing_ok=True)
        (os.mkfifo if kind == "pipe" else os.mkdir)(run / file)
    with at_once(), pytest.raises(InputError) as error:
        READERS[file](run)
    assert len(error.value.problems) == 1
    assert str(run) in str(error.value)


@pytest.mark.parametrize("begun", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]"])
def test_weights_without_a_header_are_not_mapped_into_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Where the address space is limited, mapping 10 GB fails, and is no sign of damage."""
    monkeypatch.setattr("mopo_pl.nn.stored_weights.load_file", pytest.fail)
    path = run / "policy/policy.safetensors"
    path.write_bytes(begun)
    with pytest.raises(InputError, match=r"policy\.safetensors has no header of safetensors"):
        Policy.load(grown(path).parent)


@pytest.mark.parametrize("stage", ["dynamics", "policy"])
def test_the_metrics_of_a_resumed_run_are_not_read_beyond_their_cap(run: Path, stage: str) -> None:
    metrics = MetricsFile(grown(run / "metrics.jsonl"), stage=stage)
    for read in (metrics.rows, lambda: metrics.forget_after(1)):
        with at_once(), pytest.raises(InputError, match=r"metrics\.jsonl is damaged \(.* has 10000000000 bytes"):
            read()


@pytest.mark.parametrize("kind", ["holes", "pipe", "folder"])
def test_a_configuration_that_is_no_file_is_left_out_of_a_comparison(
    run: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    result = '{"behaviour_return": 0, "updates": 1, "seconds": {}, "dataset": {"name": "a", "hash": "b"}, "seed": 0}'
    (run / "result.json").write_text(result)
    if kind == "holes":
        grown(run / "config.yaml")
    else:
        (run / "config.yaml").unlink()
        (os.mkfifo if kind == "pipe" else os.mkdir)(run / "config.yaml")
    with at_once():
        assert main(["compare", str(run)]) == 2
    why = "is larger than 1000000 bytes" if kind == "holes" else "is no regular file"
    assert f"{run / 'config.yaml'} {why}: it is no file of settings" in capsys.readouterr().err


def test_a_mapping_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plant.yaml")
    with pytest.raises(InputError):
        compose([f"dataset={tmp_path / 'plant.yaml'}"])


def test_a_description_of_lerobot_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    os.mkfifo(tmp_path / "meta/info.json")
    with pytest.raises(InputError):
        open_dataset(name=str(tmp_path), data=DataConfig(), env_id=None, env_kwargs={})


def small_log(path: Path) -> Path:
    """A log of its suffix."""
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    rows = {"observation": np.ones(50), "action": np.linspace(-1, 1, 50), "reward": np.zeros(50)}
    if path.suffix == ".npz":
        arrays = {"observations": np.ones((50, 1)), "actions": np.zeros((50, 1)), "rewards": np.zeros(50)}
        np.savez(path, allow_pickle=False, **arrays)
    elif path.suffix == ".hdf5":
        import h5py

        with h5py.File(path, "w") as file:
            for name, values in rows.items():
                file[f"{name}s"] = values
    else:
        table = pa.table(rows)
        {
            ".csv": lambda: csv.write_csv(table, path),
            ".parquet": lambda: parquet.write_table(table, path),
            ".arrow": lambda: feather.write_feather(table, str(path), compression="uncompressed"),
        }[path.suffix]()
    return path


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".csv", ".parquet", ".arrow"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_log_that_is_mostly_holes_ends_at_once(tmp_path: Path, suffix: str, begun: bool) -> None:
    path = tmp_path / f"log{suffix}"
    if begun:
        small_log(path)
    grown(path)
    assert key_of([path], {}) is None  # it would be hashed for the cache
    columns = {".csv", ".parquet", ".arrow"}
    config = compose([f"dataset={path}", *(["data.columns.observation=observation"] if suffix in columns else [])])
    with at_once(), pytest.raises(InputError, match=re.escape(str(path))):
        open_dataset(name=str(path), data=config.data, env_id=None, env_kwargs={})


def test_a_log_without_holes_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mopo_pl.data.log.cached_dataset.SMALLEST", 0)
    path = small_log(tmp_path / "log.npz")
    assert key_of([path], {}) is not None
    assert key_of([grown(path)], {}) is None


@pytest.mark.parametrize("key", ["action_low", "action_high"])
def test_a_bound_beyond_any_float_is_a_damaged_policy(run: Path, key: str) -> None:
    path = run / "policy/policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: [10**400]}))
    with pytest.raises(InputError, match="holds a damaged policy"):
        Policy.load(run)


# Checkpoints


@pytest.fixture
def saved(tmp_path: Path) -> tuple[CheckpointFiles, Path, Path]:
    """A checkpoint, and the refresh that it refers to."""
    files = CheckpointFiles(tmp_path / "checkpoints", "policy")
    refreshes = RefreshFiles(files.folder / "refreshes")
    entry = refreshes.keep(1, torch.ones(4, 3))
    path = files.path(0, 1)
    ChecksummedCheckpointIO().save_checkpoint({"rows": [entry]}, path)
    assert files.newest_valid() == path
    return files, path, refreshes.folder / entry["file"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_checkpoint_or_a_refresh_of_another_size_is_not_hashed(
    saved: tuple[CheckpointFiles, Path, Path], which: int
) -> None:
    grown(saved[1:][which])
    with at_once():
        assert saved[0].newest_valid() is None


def test_a_checkpoint_of_an_earlier_version_names_no_sizes(saved: tuple[CheckpointFiles, Path, Path]) -> None:
    checksums = json.loads(saved[1].with_suffix(".json").read_text())
    assert checksums.pop("bytes") == {saved[1].name: saved[1].stat().st_size, saved[2].name: 48}
    saved[1].with_suffix(".json").write_text(json.dumps(checksums))
    assert saved[0].newest_valid() == saved[1]


def test_a_refresh_of_another_size_is_not_fetched(saved: tuple[CheckpointFiles, Path, Path], tmp_path: Path) -> None:
    entry = {"file": saved[2].name, "sha256": "0" * 64, "shape": [4, 3], "dtype": "float32"}
    grown(saved[2])
    with at_once(), pytest.raises(InputError, match="is missing or differs"):
        RefreshFiles(saved[2].parent).fetch(1, entry)
    shutil.rmtree(saved[2].parent)
    assert RefreshFiles(saved[2].parent).keep(1, torch.ones(4, 3))["shape"] == [4, 3]
