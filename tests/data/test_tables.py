"""CSV and Parquet logs by the names of their columns."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.report import describe
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

Table = dict[str, list]
SUFFIXES = [".csv", ".csv.gz", ".parquet"]
COLUMNS: dict[str, Any] = {"observation": ["temp", "joint_*"], "action": ["valve"], "reward": "yield"}


@pytest.fixture
def table() -> Table:
    """Two runs of a plant, of 4 and 3 rows."""
    return {
        "run": ["a", "a", "a", "a", "b", "b", "b"],
        "time": [0.0, 0.5, 1.0, 1.5, 0.0, 0.5, 1.0],
        "temp": [20.0, 21.0, 22.0, 23.0, 30.0, 31.0, 32.0],
        "joint_0": [0, 1, 2, 3, 4, 5, 6],
        "joint_1": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5],
        "valve": [-1.0, 0.0, 1.0, 0.5, 0.25, 0.0, 0.5],
        "yield": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
    }


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., OfflineDataset]:
    def opens(table: Table, suffix: str = ".csv", **columns: Any) -> OfflineDataset:
        path = tmp_path / f"log{suffix}"
        content = pa.table(table)
        if suffix == ".parquet":
            parquet.write_table(content, path)
        else:
            with gzip.open(path, "wb") if suffix.endswith(".gz") else path.open("wb") as file:
                csv.write_csv(content, file)
        data = DataConfig(columns=ColumnsConfig(**{**COLUMNS, **columns}))
        return open_dataset(name=str(path), data=data, env_id=None, env_kwargs={})

    return opens


Opened = Callable[..., OfflineDataset]


def remarks(log: OfflineDataset) -> list[str]:
    return [finding.text for finding in log.findings if finding.name == "reading"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_read_by_name(opened: Opened, table: Table, suffix: str) -> None:
    log = opened(table, suffix, episode="run")
    assert log.names.observations == ("temp", "joint_0", "joint_1")
    assert log.names.actions == ("valve",)
    assert log.transitions.observations[4].tolist() == [30, 4, 4.5]
    assert log.transitions.actions.flatten().tolist() == table["valve"]
    assert log.transitions.rewards.tolist() == table["yield"]
    assert log.transitions.next_observations[0].tolist() == [21, 1, 1.5]
    assert log.episode_ends.tolist() == [4, 7]
    assert log.next_known.tolist() == [True, True, True, False, True, True, False]
    assert not log.transitions.terminals.any()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_episodes_end_where_time_falls_back_or_skips(opened: Opened, table: Table, suffix: str) -> None:
    table["time"] = [0.0, 0.5, 3.0, 3.5, 0.0, 0.5, 1.0]
    assert opened(table, suffix, time="time").episode_ends.tolist() == [2, 4, 7]


def test_times_may_be_dates(opened: Opened, table: Table) -> None:
    table["time"] = [f"2026-11-28 07:{minute:02}:00" for minute in (0, 1, 2, 9, 10, 11, 12)]
    assert opened(table, time="time").episode_ends.tolist() == [3, 7]


def test_episodes_end_at_flags(opened: Opened, table: Table) -> None:
    table["failed"], table["cut"] = [0, 0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]
    log = opened(table, terminal="failed", truncated="cut")
    assert log.episode_ends.tolist() == [2, 4, 7]
    assert log.transitions.terminals.tolist() == [0, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_row_with_a_missing_value_joins_no_strangers(opened: Opened, table: Table, suffix: str) -> None:
    table["temp"][1], table["yield"][5] = None, None
    log = opened(table, suffix, episode="run")
    assert log.transitions.observations[:, 0].tolist() == [20, 22, 23, 30, 32]
    assert log.episode_ends.tolist() == [1, 3, 4, 5]
    assert log.next_known.tolist() == [False, True, False, False, False]
    assert remarks(log) == [
        "2 of 7 rows have missing values and are left out (temp 1, yield 1); the rows around them are not joined, and rows are counted without them"
    ]


def test_a_missing_row_of_an_interleaved_episode_ends_its_own_segment(opened: Opened, table: Table) -> None:
    order = [0, 4, 1, 5, 2, 6, 3]
    table["temp"][1] = None
    log = opened({key: [values[row] for row in order] for key, values in table.items()}, episode="run")
    assert log.transitions.observations[:, 0].tolist() == [20, 22, 23, 30, 31, 32]
    assert log.episode_ends.tolist() == [1, 3, 6]


def test_a_missing_row_that_may_be_of_any_episode_ends_them_all(opened: Opened, table: Table) -> None:
    order = [0, 4, 1, 5, 2, 6, 3]
    table["run"][5] = None
    log = opened({key: [values[row] for row in order] for key, values in table.items()}, episode="run")
    assert log.transitions.observations[:, 0].tolist() == [20, 21, 22, 23, 30, 32]
    assert log.episode_ends.tolist() == [2, 4, 5, 6]


def test_rows_that_were_removed_show_in_time(opened: Opened, table: Table) -> None:
    left = {key: [value for row, value in enumerate(values) if row != 2] for key, values in table.items()}
    log = opened(left, episode="run", time="time")
    assert log.episode_ends.tolist() == [2, 3, 6]
    assert remarks(log) == ["time skips after 1 row, the first is row 1; episodes are taken to end there"]


def test_next_observations_may_be_columns(opened: Opened, table: Table) -> None:
    for name in ("temp", "joint_0", "joint_1"):
        table[f"next_{name}"] = [value + 1 for value in table[name]]
    log = opened(table, next_observation="next_*", episode="run")
    assert log.next_known.all()
    assert log.transitions.next_observations[3].tolist() == [24, 4, 4.5]


def test_columns_that_are_not_used_are_named(opened: Opened, table: Table) -> None:
    log = opened({**table, "is_done": [0, 0, 0, 1, 0, 0, 1]}, episode="run")
    (unused,) = [finding.text for finding in log.findings if finding.name == "unused-arrays"]
    assert unused == "not used: time [7], is_done [7]"


def test_messages_name_columns(opened: Opened, table: Table) -> None:
    table["joint_0"] = [3] * 7
    log = opened(table, episode="run")
    assert "observation columns never change: joint_0" in [finding.text for finding in log.findings]


def refused(opens: Callable[[], object], *parts: str) -> None:
    with pytest.raises(InputError) as error:
        opens()
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_needs_its_columns_named(opened: Opened, table: Table, suffix: str) -> None:
    refused(
        lambda: opened(table, suffix, observation=None, action=None),
        "no observations",
        "say which columns they are, as in 'data.columns.observation=[temp, level]'",
        "no actions",
        "temp, joint_0",
    )


def test_a_column_that_is_not_there_is_answered_with_the_nearest(opened: Opened, table: Table) -> None:
    refused(lambda: opened(table, observation=["tmp"]), "data.columns.observation=tmp", "did you mean temp?")


def test_a_column_of_text_is_refused(opened: Opened, table: Table) -> None:
    refused(lambda: opened(table, observation=["run"]), "column run holds string, not numbers")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_table_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"a,b\n1,2\n3\n" + np.random.default_rng(0).bytes(50))
    refused(
        lambda: open_dataset(name=str(path), data=DataConfig(), env_id=None, env_kwargs={}), "cannot be read as a table"
    )


# What to write instead

MISSING = "leave the column out; or where a value is missing, leave the cell empty, as in 1.5,,2.0"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ('"21,5"', "write 21.5, with a point"),
        ("21.5 °C", "write 21.5 alone; data.units holds units"),
        ("-3%", "write -3 alone; data.units holds units"),
        ('"1.234,5"', "write numbers with a point and without marks of thousands, as in 1234.5"),
        ("1'234.5", "write numbers with a point and without marks of thousands, as in 1234.5"),
        ("02.03.2026 06:00", "write times as 2026-03-02 06:00:00"),
        ("-", MISSING),
        ("off", "write flags as 1 and 0, or as true and false"),
        ("Yes", "write flags as 1 and 0, or as true and false"),
        ("none", MISSING),
        ("3 of 5", MISSING),
    ],
)
def test_a_cell_that_is_no_number_is_answered_with_what_to_write(tmp_path: Path, cell: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"temp,valve,yield\n20,0,1\n{cell},0,1\n22,0,1\n", encoding="utf-8")
    data = DataConfig(columns=ColumnsConfig(**{**COLUMNS, "observation": ["temp"]}))
    with pytest.raises(InputError) as error:
        open_dataset(name=str(path), data=data, env_id=None, env_kwargs={})
    (problem,) = error.value.problems
    assert (
        problem
        == f"{path}: column temp holds string, not numbers: '{cell.strip(chr(34))}' in row 1; {says}".replace(
            "'1'234.5'", '"1\'234.5"'
        )
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "20.5,1,0\n21.5,2,0\n",
            "begins with numbers (20.5, 1, 0), not with names of columns; write a line of names above them, such as "
            "temp,level,valve",
        ),
        ("1;2,5;3;4;5\n1;2;3;4;5\n", "such as temp,level,valve,yield,…"),
        ("temp,temp,yield\n1,2,3\n", "has the column temp twice; rename one, such as temp_2"),
        (
            "temp,valve,yield\n1,0,3\n1,5,0,3\n",
            'Expected 3 columns, got 4: 1,5,0,3; each line needs as many cells as the first: put a text that holds a comma in quotes, "a, b", '
            "and write decimals with a point, 1.5, or part the columns by semicolons, 1,5;2,0",
        ),
    ],
    ids=["names", "many names", "twice", "cells"],
)
def test_a_table_that_cannot_be_read_is_answered_with_what_to_write(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    data = DataConfig(columns=ColumnsConfig(**{**COLUMNS, "observation": ["temp"]}))
    with pytest.raises(InputError) as error:
        open_dataset(name=str(path), data=data, env_id=None, env_kwargs={})
    (problem,) = error.value.problems
    assert problem.endswith(says)


@pytest.mark.parametrize(
    "text",
    [
        "sep=,\ntemp,valve,yield\n{rows}",
        "\ufeffSEP=;\r\ntemp;valve;yield\n{rows}",
        '"sep=;";;\ntemp;valve;yield\n{rows}',
        "temp ,  valve,yield\n{rows}",
        "temp\t valve\tyield \n{rows}",
        "sep=|\n temp| valve|yield\n{rows}",
    ],
)
@pytest.mark.parametrize("rows", [2, 300_000])
def test_a_line_for_excel_and_blanks_around_names_are_read(tmp_path: Path, text: str, rows: int) -> None:
    """Where numbers are whole in the first block alone, the rest is read in another way."""
    path = tmp_path / "log.csv"
    sign = next(sign for sign in "|;\t," if sign in text.splitlines()[-2])
    values = [*map(str, range(rows)), f"{rows}.5"]
    path.write_text(text.replace("{rows}", "".join(f"{value}{sign}0{sign}1\n" for value in values)), encoding="utf-8")
    read = temps(path)
    assert (len(read), read[:2], read[-1]) == (len(values), [0.0, 1.0], rows + 0.5)


def test_a_table_in_another_encoding_is_answered_with_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("temp °C,valve,yield\n20,0,1\n", encoding="latin1")
    refused(lambda: temps(path), "is not written in UTF-8: save it so (in Excel: CSV UTF-8)")


def test_columns_without_brackets_are_answered_with_brackets(opened: Opened, table: Table) -> None:
    refused(
        lambda: opened(table, observation="temp, joint_0"),
        "data.columns.observation=temp, joint_0: several columns need brackets, as in 'data.columns.observation=[temp, joint_0]'",
    )
    refused(lambda: opened(table, observation="temp, joint_7"), "has no such key")


def semicolons(tmp_path: Path, temps: list[str]) -> Path:
    path = tmp_path / "log.csv"
    path.write_text("temp;valve;yield\n" + "".join(f"{temp};0;1\n" for temp in temps))
    return path


def temps(path: Path) -> list[float]:
    columns = ColumnsConfig(observation=["temp"], action=["valve"], reward="yield")
    log = open_dataset(name=str(path), data=DataConfig(columns=columns), env_id=None, env_kwargs={})
    return log.transitions.observations.flatten().tolist()


@pytest.mark.parametrize("sign", [",", "."])
def test_numbers_with_a_sign_between_thousands_are_refused(tmp_path: Path, sign: str) -> None:
    """Read as decimals, 1,204 beside 950 would be a thousand times too small."""
    written = [f"1{sign}204", "950", f"1{sign}310", f"2{sign}007", "870", f"1{sign}099", f"1{sign}100"]
    refused(
        lambda: temps(semicolons(tmp_path, written)),
        f"1{sign}204 and 950 stand in one column: does 1{sign}204 mean 1204?",
    )
    refused(
        lambda: temps(semicolons(tmp_path, ["1.204,5", "1,5"])), "numbers such as 1.204,5 have a sign between thousands"
    )


def test_a_decimal_comma_may_come_in_a_later_row(tmp_path: Path) -> None:
    assert temps(semicolons(tmp_path, ["20", "0", "20,5", "1,204", "0,136962"])) == pytest.approx(
        [20, 0, 20.5, 1.204, 0.136962]
    )
    assert temps(semicolons(tmp_path, [f"{i},250" for i in range(1, 9)])) == [i + 0.25 for i in range(1, 9)]


def test_an_episode_beside_a_gap_is_not_whole(tmp_path: Path) -> None:
    """Its return is a part of one, and its first row no beginning: neither may stand for the log."""
    path = tmp_path / "log.csv"
    rows = [f"{run},{step},{step if (run, step) != (1, 4) else ''},0,1" for run in range(4) for step in range(10)]
    rows.remove("3,5,5,0,1")  # time skips
    path.write_text("run,clock,temp,valve,yield\n" + "\n".join(rows) + "\n")
    columns = ColumnsConfig(observation=["temp"], action=["valve"], reward="yield", episode="run", time="clock")
    log = open_dataset(name=str(path), data=DataConfig(columns=columns), env_id=None, env_kwargs={})
    assert log.episode_lengths().tolist() == [10, 4, 5, 10, 5, 4]
    assert log.finished.tolist() == [True, False, False, True, False, False]
    assert log.episode_returns().tolist() == [10, 10]
    assert "of 2 whole episodes: mean 10.00" in describe(log)
    assert "4 episodes in part, beside a gap or the file's end" in describe(log)


def test_points_beside_commas_between_columns_are_decimals(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "temp,valve,yield\n"
        + "".join(f"{value},0,1\n" for value in ("1", "1.001", "1.002", "1.003", "1.004", "1.005", "2"))
    )
    assert temps(path) == pytest.approx([1, 1.001, 1.002, 1.003, 1.004, 1.005, 2])


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_points_between_thousands_are_refused_wherever_they_stand(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "log.csv"
    values = ["950"] * 500 + ["1.204", "1.310", "2.007", "1.099", "1.100", "870"]
    path.write_text(
        "\n".join(delimiter.join(row) for row in [("temp", "valve", "yield"), *((v, "0", "1") for v in values)])
    )
    refused(lambda: temps(path), "1.204 and 950 stand in one column: does 1.204 mean 1204?")


@pytest.mark.parametrize("name", [1.1, True])
def test_a_name_that_was_read_as_a_number_is_refused(table: Table, opened: Opened, name: Any) -> None:
    """Of 1.10 in YAML the number 1.1 is left, which may be another column."""
    refused(
        lambda: opened(table, observation=[name]), f"data.columns.observation holds {name!r}, which is no text: put"
    )


def test_terminal_rows_that_are_left_out_are_counted(table: Table, opened: Opened) -> None:
    table["failed"], table["temp"][3] = [0, 0, 0, 1, 0, 0, 0], None
    (remark,) = remarks(opened(table, episode="run", terminal="failed"))
    assert "1 of all 1 terminal rows are among them" in remark


def test_a_clock_that_stands_or_falls_within_an_episode_is_told(table: Table, opened: Opened) -> None:
    table["time"][2:4] = [0.5, 1.0]
    (remark,) = remarks(opened(table, episode="run", time="time"))
    assert remark.startswith("time falls back or stands after 1 rows inside episodes of run, the first is row 1")
    (remark,) = remarks(opened(table, time="time"))
    assert remark.startswith("time stands after 1 rows, the first is row 1")
