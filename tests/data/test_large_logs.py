"""Logs that are cached, and looked at in blocks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor import evidence, next_states
from mopo_pl.data.log import cached_dataset, opening
from mopo_pl.data.log.opening import examine
from mopo_pl.data.readers import raw_log
from mopo_pl.data.readers.pendulum import collect_pendulum

Same = Callable[[OfflineDataset, OfflineDataset], None]
Arrays = dict[str, Any]
ROWS = 2000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that takes small logs too."""
    monkeypatch.setattr(cached_dataset, "SMALLEST", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mopo_pl" / "logs"


@pytest.fixture
def path(tmp_path: Path, tiny: Arrays) -> Path:
    """A table with what the checks and the reader remark upon."""
    table = {
        **{key: tiny[key].ravel() for key in ("observations", "actions", "rewards", "terminals")},
        "run": ["a", "a", "a", "b", "b", "c"],
        "clock": [0, 1, 2, 0, 1, 0],
        "noise": [0.5, 0.25, 0, 0, 0, 0],
    }
    table["rewards"][1] = np.nan
    parquet.write_table(pa.table(table), tmp_path / "log.parquet")
    return tmp_path / "log.parquet"


COLUMNS = ColumnsConfig(episode="run")


def opened(name: Path | str, data: DataConfig | None = None, env_id: str | None = None) -> OfflineDataset:
    dataset, findings = examine(name=str(name), data=data or DataConfig(columns=COLUMNS), env_id=env_id, env_kwargs={})
    assert dataset is not None
    assert findings == dataset.findings
    return dataset


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every log that is read from its files."""
    done: list[str] = []
    read = opening.read

    def counted(source: str, data: DataConfig) -> raw_log.RawLog:
        done.append(source)
        return read(source, data)

    monkeypatch.setattr(opening, "read", counted)
    return done


def test_a_log_comes_from_the_cache_as_it_was_read(cache: Path, path: Path, reads: list[str], same: Same) -> None:
    first = opened(path)
    assert len([finding for finding in first.findings if finding.level == "WARN"]) >= 2
    again = opened(path)
    assert reads == [str(path)]
    assert len(list(cache.iterdir())) == 1
    same(again, first)
    assert again.action_low.tolist() == first.action_low.tolist()
    for name in ("name", "env_id", "env_kwargs", "names", "findings", "obs_dim", "action_dim"):
        assert getattr(again, name) == getattr(first, name), name


def test_another_content_or_another_mapping_is_read_again(cache: Path, path: Path, reads: list[str]) -> None:
    data = DataConfig(columns=COLUMNS)
    changes = [
        replace(data, columns=replace(COLUMNS, time="clock")),
        replace(data, time_limit=2),
        replace(data, action_low=[-2.0]),
        replace(data, clip_actions=True),
    ]
    for change in (data, *changes):
        opened(path, change)
    opened(path, env_id="none")
    assert len(reads) == 6
    table = parquet.read_table(path)
    parquet.write_table(table.set_column(0, "observations", pa.array(np.arange(6.0))), path)
    assert opened(path).transitions.observations[1] == 2  # row 1 has no reward
    assert len(reads) == 7


def test_the_cache_can_be_left_out(cache: Path, path: Path, reads: list[str]) -> None:
    for _ in range(2):
        opened(path, DataConfig(columns=COLUMNS, cache=False))
    assert len(reads) == 2
    assert not cache.exists()


def test_small_logs_are_not_cached(path: Path, user_cache: Path) -> None:
    opened(path)
    assert list(user_cache.rglob("*.safetensors")) == []


def test_a_damaged_cache_is_written_again(cache: Path, path: Path, reads: list[str], same: Same) -> None:
    first = opened(path)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    same(opened(path), first)
    same(opened(path), first)
    assert len(reads) == 2


def test_a_log_that_is_written_while_it_is_read_is_not_cached(
    cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = opening.read

    def slow(source: str, data: DataConfig) -> raw_log.RawLog:
        raw = read(source, data)
        path.write_bytes(path.read_bytes() + b" ")
        return raw

    monkeypatch.setattr(opening, "read", slow)
    opened(path)
    assert not cache.exists()


def test_a_folder_is_cached_by_all_its_files(cache: Path, path: Path, reads: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.parquet").write_bytes(path.read_bytes())
    opened(folder)
    opened(folder)
    assert len(reads) == 1
    (folder / "2.parquet").unlink()
    assert len(opened(folder)) == 10
    assert len(reads) == 2


def test_a_minari_dataset_is_cached_and_its_environment_asked_again(
    cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = collect_pendulum(60, 0)
    first = opened(name, DataConfig())
    assert opened(name, DataConfig()).hash == first.hash
    assert len(reads) == 1
    make = opening.tried_environment

    def narrow(*given: Any) -> gymnasium.Env:
        environment = make(*given)
        environment.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        return environment

    monkeypatch.setattr(opening, "tried_environment", narrow)
    opened(name, DataConfig())
    assert len(reads) == 2


def test_a_cached_log_is_given_any_history(path: Path, cache: Path, reads: list[str]) -> None:
    """The log is kept as it is, and states of several observations are made of it each time."""
    first = opened(path, DataConfig(columns=COLUMNS, history=2))
    again, plain = opened(path, DataConfig(columns=COLUMNS, history=2)), opened(path)
    assert len(reads) == 1
    assert first.transitions.history == again.transitions.history == 2
    assert torch.equal(first.transitions.rows, again.transitions.rows)
    assert (plain.transitions.history, plain.obs_dim) == (1, first.transitions.newest_dim)


# Blocks


def defects() -> dict[str, Callable[[Arrays], None]]:
    """Changes of a log, by what they are."""

    def pull_out(log: Arrays) -> None:
        del log["next_observations"]
        log["timeouts"][99::100] = False

    def shift(log: Arrays) -> None:
        log["next_observations"] = np.roll(log["next_observations"], -1, 0)

    def copy(log: Arrays) -> None:
        log["next_observations"] = log["observations"].copy()

    def stick(log: Arrays) -> None:
        log["observations"][300:340, 1] = 0.5
        log["next_observations"] = np.append(log["observations"][1:], log["next_observations"][-1:], 0)

    def repeat(log: Arrays) -> None:
        for array in log.values():
            array[500:700] = array[100:300]

    def spoil(log: Arrays) -> None:
        log["observations"][777, 0], log["observations"][:, 2] = np.inf, 3

    def count(log: Arrays) -> None:
        log["observations"][:, 2] = 1e9 + np.arange(ROWS)

    def overshoot(log: Arrays) -> None:
        log["actions"][1234] *= 3
        log["actions"][:, 1] = 1

    return {"clean": lambda log: None} | {
        change.__name__: change for change in (pull_out, shift, copy, stick, repeat, spoil, count, overshoot)
    }


@pytest.mark.parametrize("defect", defects())
def test_blocks_change_nothing_of_what_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linear: Callable[[int], Arrays], defect: str
) -> None:
    log = linear(ROWS)
    defects()[defect](log)
    np.savez(tmp_path / "log.npz", allow_pickle=False, **log)
    whole, findings = examine(name=str(tmp_path / "log.npz"), data=DataConfig(), env_id=None, env_kwargs={})
    monkeypatch.setattr(raw_log, "BLOCK", 37)
    monkeypatch.setattr(evidence, "NEAR", 11)
    parts, found = examine(name=str(tmp_path / "log.npz"), data=DataConfig(), env_id=None, env_kwargs={})
    assert found == findings
    assert (parts and parts.hash) == (whole and whole.hash)
    assert defect == "clean" or any(finding.level != "OK" for finding in findings)


def test_a_fit_to_some_of_the_rows_finds_the_same_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linear: Callable[[int], Arrays]
) -> None:
    log = linear(ROWS)
    defects()["pull_out"](log)
    np.savez(tmp_path / "log.npz", allow_pickle=False, **log)

    def jumps() -> list[str]:
        _, findings = examine(name=str(tmp_path / "log.npz"), data=DataConfig(), env_id=None, env_kwargs={})
        return [finding.text for finding in findings if finding.name == "rows-jump"]

    says = "(row 99, 199, 399, …) the next row does not continue the one before, every 50 rows: ends are not marked"
    assert says in jumps()[0]
    monkeypatch.setattr(next_states, "FITTED", 600)
    assert says in jumps()[0]


def test_the_key_depends_on_the_code_of_readers_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of them may read the same files in another way."""
    read, seen = Path.read_bytes, set()

    def noted(path: Path) -> bytes:
        seen.add(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    cached_dataset._code.cache_clear()
    cached_dataset._code()
    assert {"arrays.py", "hdf5.py", "ends.py", "packing.py", "cached_dataset.py"} <= seen
