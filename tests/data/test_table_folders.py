"""Folders of tables as one log, and what the columns of a table may hold."""

import contextlib
import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, ipc, parquet

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.data.readers import arrays, sizes
from mopo_pl.data.readers.episode_ends import join_interleaved_episodes
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.readers.tables.reading import read_table
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Same = Callable[[OfflineDataset, OfflineDataset], None]
Arrays = dict[str, Any]
COLUMNS = ColumnsConfig(observation=["temp", "flow"], action="valve", reward="gain")
KINDS = [".csv", ".csv.gz", ".parquet", ".arrow", ".feather", ".stream.arrow"]


def write(path: Path, table: pa.Table) -> None:
    """As the suffix says."""
    name = path.name
    if name.endswith(".parquet"):
        parquet.write_table(table, path)
    elif name.endswith(".stream.arrow"):
        with path.open("wb") as file, ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith(".arrow"):
        with path.open("wb") as file, ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif name.endswith(".feather"):
        feather.write_feather(table, path)
    else:
        with gzip.open(path, "wb") if name.endswith(".gz") else path.open("wb") as file:
            csv.write_csv(table, file)


def opened(path: Path, columns: ColumnsConfig = COLUMNS) -> OfflineDataset:
    return open_dataset(name=str(path), data=DataConfig(columns=columns), env_id=None, env_kwargs={})


def refused(path: Path, *parts: str, columns: ColumnsConfig = COLUMNS) -> None:
    with pytest.raises(InputError) as error:
        opened(path, columns)
    assert len(error.value.problems) == 1
    for part in parts:
        assert part in str(error.value)


def remarks(log: OfflineDataset) -> list[str]:
    return [finding.text for finding in log.findings if finding.name == "reading" and finding.text]


@pytest.fixture
def plant() -> dict[str, list[Any]]:
    """Two runs, of 7 and 5 rows."""
    rng = np.random.default_rng(0)
    return {
        "run": ["a"] * 7 + ["b"] * 5,
        "clock": [*range(7), *range(5)],
        "temp": rng.normal(20, 3, 12).tolist(),
        "flow": rng.normal(0, 1, 12).tolist(),
        "valve": rng.uniform(-1, 1, 12).tolist(),
        "gain": rng.normal(0, 1, 12).tolist(),
    }


@pytest.fixture
def expected(open_log: Open, plant: dict[str, list[Any]]) -> OfflineDataset:
    """The same rows as plain arrays."""
    return open_log(
        {
            "obs": np.stack([plant["temp"], plant["flow"]], 1),
            "action": np.array(plant["valve"])[:, None],
            "reward": np.array(plant["gain"]),
            "done": np.zeros(12),
            "timeout": np.arange(12) == 6,
        }
    )


def by(**columns: str) -> ColumnsConfig:
    return ColumnsConfig(observation=["temp", "flow"], action="valve", reward="gain", **columns)


def parts_of(folder: Path, plant: dict[str, list[Any]], kind: str, cuts: list[int]) -> Path:
    """A folder whose files end at these rows: 8, 9, 10, 11, so that text order is another."""
    folder.mkdir()
    table, start = pa.table(plant), 0
    for number, end in enumerate([*cuts, 12], 8):
        write(folder / f"part-{number}{kind}", table.slice(start, end - start))
        start = end
    (folder / "README.md").write_text("no table")
    (folder / "._part-8.parquet").write_bytes(b"hidden")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_arrays_it_holds(
    tmp_path: Path, plant: dict[str, list[Any]], expected: OfflineDataset, same: Same, kind: str
) -> None:
    write(tmp_path / f"plant{kind}", pa.table(plant))
    log = opened(tmp_path / f"plant{kind}", by(episode="run"))
    same(log, expected)
    assert log.names.observations == ("temp", "flow")
    same(opened(tmp_path / f"plant{kind}", by(time="clock")), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_one_log_in_the_natural_order_of_its_files(
    tmp_path: Path, plant: dict[str, list[Any]], expected: OfflineDataset, same: Same, kind: str
) -> None:
    folder = parts_of(tmp_path / "plant", plant, kind, [3, 6, 8])
    same(opened(folder, by(episode="run")), expected)
    log = opened(folder, by(time="clock"))
    same(log, expected)
    assert remarks(log) == []


def test_a_folder_may_be_called_like_a_table(
    tmp_path: Path, plant: dict[str, list[Any]], expected: OfflineDataset, same: Same
) -> None:
    same(opened(parts_of(tmp_path / "plant.parquet", plant, ".parquet", [4]), by(episode="run")), expected)


def test_the_order_of_columns_may_differ_between_files(
    tmp_path: Path, plant: dict[str, list[Any]], expected: OfflineDataset, same: Same
) -> None:
    folder = parts_of(tmp_path / "plant", plant, ".parquet", [5])
    table = parquet.read_table(folder / "part-9.parquet")
    parquet.write_table(table.select(table.column_names[::-1]), folder / "part-9.parquet")
    same(opened(folder, by(episode="run")), expected)


def test_files_join_no_strangers_where_nothing_says_that_an_episode_goes_on(
    tmp_path: Path, plant: dict[str, list[Any]]
) -> None:
    log = opened(parts_of(tmp_path / "plant", plant, ".csv", [3, 6, 8]))
    assert log.episode_ends.tolist() == [3, 6, 8, 12]
    assert log.next_known.nonzero().flatten().tolist() == [0, 1, 3, 4, 6, 8, 9, 10]
    assert remarks(log) == [
        "episodes are taken to end with 3 of the files, the first after row 2; data.columns.episode or data.columns.time "
        "would say where they go on"
    ]


def test_a_row_left_out_at_the_border_of_files_ends_the_episode(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["flow"][3] = None
    log = opened(parts_of(tmp_path / "plant", plant, ".csv", [3]), by(episode="run"))
    assert log.episode_ends.tolist() == [3, 6, 11]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.drop(["flow"]), "part-9.parquet has no column flow, which part-8.parquet has"),
        (
            lambda table: table.append_column("level", table["flow"]),
            "part-9.parquet has a column level, which part-8.parquet has not",
        ),
        (
            lambda table: table.set_column(3, "flow", pa.array(["high"] * 7)),
            "part-9.parquet: column flow holds string, not numbers: 'high' in row 0",
        ),
        (
            lambda table: table.set_column(3, "flow", pa.array([[1.0]] * 7)),
            "part-9.parquet: column flow holds list<element: double>, and other files hold another type",
        ),
    ],
    ids=["lacking", "further", "text", "list"],
)
def test_files_of_other_columns_are_refused(
    tmp_path: Path, plant: dict[str, list[Any]], change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    folder = parts_of(tmp_path / "plant", plant, ".parquet", [5])
    parquet.write_table(change(parquet.read_table(folder / "part-9.parquet")), folder / "part-9.parquet")
    refused(folder, str(folder), says, columns=by(episode="run"))


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", "holds no tables (.csv, .csv.gz, .parquet, .arrow, .feather)")


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    folder = parts_of(tmp_path / "plant", plant, ".csv", [5])
    write(folder / "part-10.parquet", pa.table(plant))
    refused(folder, "holds files of several kinds (.csv, .parquet)")


def test_a_damaged_file_of_a_folder_is_named(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    folder = parts_of(tmp_path / "plant", plant, ".arrow", [5])
    (folder / "part-9.arrow").write_bytes((folder / "part-9.arrow").read_bytes()[:300])
    refused(folder, "part-9.arrow cannot be read as a table")


# What columns hold


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "variable"])
def test_lists_are_rows_of_an_array(
    tmp_path: Path, open_log: Open, tiny: Arrays, same: Same, kind: str, fixed: bool
) -> None:
    wide = {**tiny, "actions": np.concatenate([tiny["actions"], -tiny["actions"]], 1)}
    lists = pa.list_(pa.float32(), 2) if fixed else pa.list_(pa.float32())
    one = pa.list_(pa.float32())
    table = pa.table(
        {
            "obs": pa.array(wide["observations"].tolist(), one),
            "new_obs": pa.array(wide["next_observations"].tolist(), one),
            "actions": pa.array(wide["actions"].tolist(), lists),
            "rewards": wide["rewards"],
            "terminateds": wide["terminals"],
            "truncateds": wide["timeouts"],
            "eps_id": ["x", "x", "x", "y", "y", "z"],
            "t": [0, 1, 2, 0, 1, 0],
        }
    )
    write(tmp_path / f"rllib{kind}", table)
    same(opened(tmp_path / f"rllib{kind}", ColumnsConfig()), open_log(wide))


def test_lists_of_other_lengths_are_refused(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["flow"] = [[1.0, 2.0]] * 4 + [[1.0]] + [[1.0, 2.0]] * 7
    write(tmp_path / "plant.parquet", pa.table(plant))
    refused(tmp_path / "plant.parquet", "column flow holds 1 numbers in row 4, 2 in the first row")


def test_columns_beside_lists_keep_their_names(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["flow"] = [[float(row), 1.0 + row] for row in range(12)]
    plant["flow"][4] = None  # type: ignore[call-overload]
    write(tmp_path / "plant.parquet", pa.table(plant))
    log = opened(tmp_path / "plant.parquet", by(episode="run"))
    assert log.names.observations == ("temp", "flow 0", "flow 1")
    assert log.transitions.observations[4, 1:].tolist() == [5, 6]
    assert log.episode_ends.tolist() == [4, 6, 11]
    assert remarks(log) == [
        "1 of 12 rows have missing values and are left out (flow 0 1, flow 1 1); the rows around them are not joined, and rows are counted without them"
    ]


def test_an_unused_list_of_the_observations_shape_stops(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["later"] = [[0.0, 1.0]] * 12
    write(tmp_path / "plant.parquet", pa.table(plant))
    refused(tmp_path / "plant.parquet", "later has the shape of the observations [12, 2] and is not used")


@pytest.mark.parametrize("name", ["next_{}", "{}_next", "{}(t+1)", "{}'"])
def test_unused_columns_named_after_the_observations_stop(
    tmp_path: Path, plant: dict[str, list[Any]], name: str
) -> None:
    later = {name.format(key): plant[key] for key in ("flow", "temp")}
    write(tmp_path / "plant.parquet", pa.table({**plant, **later}))
    first, second = name.format("temp"), name.format("flow")
    refused(
        tmp_path / "plant.parquet",
        f"{first}, {second} are named after the observations",
        f'data.columns.next_observation=["{first}", "{second}"]',
    )
    opened(tmp_path / "plant.parquet", by(next_observation="none"))


def test_unused_columns_of_other_names_do_not_stop(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    limits = {f"{key}_limit": plant[key] for key in ("flow", "temp")} | {"next_service": plant["flow"]}
    write(tmp_path / "plant.parquet", pa.table({**plant, **limits}))
    (unused,) = [finding for finding in opened(tmp_path / "plant.parquet").findings if finding.name == "unused-arrays"]
    assert unused.text == "not used: run [12], clock [12], flow_limit [12], temp_limit [12], next_service [12]"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_files_in_other_units_are_compared_alike(
    tmp_path: Path, plant: dict[str, list[Any]], expected: OfflineDataset, same: Same, unit: str
) -> None:
    seconds = pa.array([1_800_000_000 + second for second in plant["clock"]], pa.timestamp("s"))
    folder = parts_of(tmp_path / "plant", {**plant, "clock": seconds}, ".parquet", [3])  # type: ignore[dict-item]
    table = parquet.read_table(folder / "part-9.parquet")
    other = table.set_column(1, "clock", table["clock"].cast(pa.timestamp(unit)))
    parquet.write_table(other, folder / "part-9.parquet")
    same(opened(folder, by(time="clock")), expected)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("flow", pa.float32()),
        ("flow", pa.decimal128(30, 20)),
        ("clock", pa.int8()),
        ("run", pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)
def test_columns_may_be_of_many_types(tmp_path: Path, plant: dict[str, list[Any]], column: str, kind: Any) -> None:
    table = pa.table(plant)
    write(tmp_path / "log.parquet", table)
    wanted = opened(tmp_path / "log.parquet", by(episode="run", time="clock"))
    place = table.column_names.index(column)
    values = table[column].cast(kind, safe=False) if column != "run" else table[column].dictionary_encode()
    write(tmp_path / "log.parquet", table.set_column(place, column, values))
    log = opened(tmp_path / "log.parquet", by(episode="run", time="clock"))
    np.testing.assert_allclose(log.transitions.rows, wanted.transitions.rows, rtol=1e-6)
    assert log.episode_ends.tolist() == [7, 12]


def test_infos_of_a_step_are_read_beside_it(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["infos/speed"], plant["temp"][2] = list(range(12)), None
    write(tmp_path / "plant.parquet", pa.table(plant))
    columns = {"observations": ["temp", "flow"], "actions": ["valve"], "rewards": ["gain"], "episodes": ["run"]}
    log = read_table(tmp_path / "plant.parquet", columns)
    assert log.infos["speed"].tolist() == [0, 1, *range(3, 12)]


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plant.csv").write_text("temp,temp,valve,gain\n1,2,0,1\n")
    refused(tmp_path / "plant.csv", "has the column temp twice; rename one")


def test_lists_of_nothing_are_refused(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["valve"] = [[]] * 12
    write(tmp_path / "plant.parquet", pa.table({**plant, "valve": pa.array(plant["valve"], pa.list_(pa.float32()))}))
    refused(tmp_path / "plant.parquet", "column valve holds empty lists, not numbers")


@pytest.mark.parametrize("kind", KINDS)
def test_tables_without_rows_are_refused(tmp_path: Path, plant: dict[str, list[Any]], kind: str) -> None:
    write(tmp_path / f"plant{kind}", pa.table(plant).slice(0, 0))
    refused(tmp_path / f"plant{kind}", "temp, flow has no rows", columns=by(episode="run", time="clock"))


def test_a_table_whose_rows_all_have_missing_values_is_refused(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    plant["flow"], plant["gain"][:2] = [None] * 12, [None, None]
    write(tmp_path / "plant.parquet", pa.table(plant))
    refused(tmp_path / "plant.parquet", "each of its 12 rows has a missing value (flow 12, gain 2); no row is left")


# Damage


@pytest.mark.parametrize("kind", [".csv.gz", ".arrow", ".stream.arrow", ".csv"])
def test_a_table_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, plant: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write(tmp_path / f"plant{kind}", pa.table(plant))
    monkeypatch.setattr(sizes, "ALWAYS_READ", 0)
    monkeypatch.setattr(sizes, "MOST_PACKED", 0.01)
    refused(tmp_path / f"plant{kind}", "declares arrays of", "damaged", columns=by(episode="run"))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_in_a_sentence(tmp_path: Path, plant: dict[str, list[Any]], kind: str) -> None:
    """Bytes that are changed may lead Arrow beyond the memory, which would end the process."""
    path, rng = tmp_path / f"plant{kind}", np.random.default_rng(0)
    write(
        path,
        pa.table({**plant, "flow": pa.array(plant["flow"], pa.float32()), "list": [[1.0]] * 12}).drop(
            ["list"] * ("csv" in kind)
        ),
    )
    content = path.read_bytes()
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(len(content), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged.tobytes()[: len(content) - int(rng.integers(2) * rng.integers(len(content)))])
        with contextlib.suppress(InputError):
            opened(path, by(episode="run", time="clock"))


@pytest.mark.parametrize("kind", [".arrow", ".stream.arrow"])
def test_texts_that_lie_beyond_the_memory_are_refused(tmp_path: Path, plant: dict[str, list[Any]], kind: str) -> None:
    """Arrow believes the offsets of a file; to follow these would end the process."""
    path = tmp_path / f"plant{kind}"
    write(path, pa.table({**plant, "run": ["seven %"] * 12}))
    offsets = np.array([0, 7, 14], np.int32).tobytes()
    assert offsets in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(offsets, np.array([0, 7, 2**30], np.int32).tobytes()))
    refused(path, "cannot be read as a table", columns=by(episode="run"))


# How CSV files are written


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "plant.csv").write_text("\ufeff" + 'temp;flow;"valve";gain\n20,5;1,25;0,5;1\n21,5;2,25;-0,5;2\n')
    log = opened(tmp_path / "plant.csv")
    assert log.transitions.observations.tolist() == [[20.5, 1.25], [21.5, 2.25]]


def csv_of(tmp_path: Path, rows: list[str]) -> Path:
    """Many rows, then some others: further than pyarrow looks for types."""
    head = ["run,temp,flow,valve,gain", *(f"1,20,{row},0.5,1" for row in range(100_000))]
    (tmp_path / "plant.csv").write_text("\n".join([*head, *rows]) + "\n")
    return tmp_path / "plant.csv"


def test_types_may_change_far_down(tmp_path: Path) -> None:
    path = csv_of(tmp_path, ["b2,20.5,7,0.5,1", "b2,,8,0.5,1", "b2,22.5,9,0.5,2"])
    log = opened(path, by(episode="run"))
    assert log.transitions.observations[-2:].tolist() == [[20.5, 7], [22.5, 9]]
    assert log.episode_ends.tolist() == [100_000, 100_001, 100_002]


def test_a_word_far_down_is_named_with_its_row(tmp_path: Path) -> None:
    path = csv_of(tmp_path, ["1,20,7,0.5,1", "1,bad value,7,0.5,1"])
    refused(path, "column temp holds string, not numbers: 'bad value' in row 100001")


# Large logs


def test_a_large_log_is_held_in_float32_and_learned_from_alike(
    tmp_path: Path,
    plant: dict[str, list[Any]],
    expected: OfflineDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mopo_pl.data.readers.tables import buffers

    for module in (arrays, buffers):
        monkeypatch.setattr(module, "LARGE", 6)
    for kind in (".csv", ".parquet"):
        log = opened(parts_of(tmp_path / f"plant{kind[1:]}", plant, kind, [3, 6, 8]), by(episode="run"))
        torch_rows, wanted = log.transitions.rows, expected.transitions.rows
        np.testing.assert_allclose(torch_rows, wanted, rtol=0, atol=1e-6)
        assert log.transitions.observations.tolist() == expected.transitions.observations.tolist()
        assert log.episode_ends.tolist() == [7, 12]


def test_episodes_that_each_file_counts_anew_are_not_joined(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    for number in range(3):
        write(tmp_path / f"part-{number}.csv", pa.table({**plant, "gain": [float(number)] * 12}))
    log = opened(tmp_path, replace(COLUMNS, episode="run"))
    assert log.episode_lengths().tolist() == [7, 5] * 3
    assert log.transitions.rewards.tolist() == [0.0] * 12 + [1.0] * 12 + [2.0] * 12
    assert remarks(log) == ["2 values of run stand in several files: each file is taken to count its episodes anew"]


def test_an_episode_may_go_on_in_the_next_file(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    whole = pa.table(plant)
    for number, part in enumerate((whole.slice(0, 5), whole.slice(5, 7))):
        write(tmp_path / f"part-{number}.csv", part)
    log = opened(tmp_path, replace(COLUMNS, episode="run", time="clock"))
    assert (log.episode_lengths().tolist(), remarks(log)) == ([7, 5], [])
    (remark,) = remarks(opened(tmp_path, replace(COLUMNS, episode="run")))
    assert remark.startswith(
        "run has the same value before and after 1 of 1 borders of files: the episode is taken to go on"
    )


def test_episodes_of_several_machines_go_on_in_the_next_file(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    """Files of days: each machine in one piece, and its clock goes on."""
    for day in range(3):
        table = {**plant, "run": ["a"] * 6 + ["b"] * 6, "clock": [6 * day + step for step in range(6)] * 2}
        write(tmp_path / f"day-{day}.csv", pa.table(table))
    assert opened(tmp_path, replace(COLUMNS, episode="run", time="clock")).episode_lengths().tolist() == [18, 18]


def test_many_files_are_told_apart_in_little_time(tmp_path: Path, plant: dict[str, list[Any]]) -> None:
    column = np.zeros(400_000)
    log = RawLog(source="log", observations=column[:, None], actions=column[:, None], rewards=column, terminals=column)
    marks = {"episodes": np.arange(400_000) % 400 // 100}
    began = time.process_time()
    join_interleaved_episodes(log, marks, range(400, 400_001, 400))
    assert time.process_time() - began < 2
    assert np.diff(np.flatnonzero(np.diff(marks["episodes"]))).tolist() == [100] * 3998
