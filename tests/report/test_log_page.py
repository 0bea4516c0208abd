"""The page about a log: numbers re-derived, whole, alone and safe; and the command that writes it."""

import csv
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from well_formed import Page

from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.report.log.contents import BINS, Histogram, contents_of, coverage_of
from mopo_pl.report.log.page import LogPage, render
from mopo_pl.run.preparation.inputs import open_inputs

HOSTILE = "<script>alert(1)</script>"
NAMES = [HOSTILE, "$x^2$ & co", "level"]
SETTINGS = [
    f'data.columns.observation=["{HOSTILE}", "$x^2$ & co", level]',
    *("data.columns.action=[heater]", "data.columns.reward=earned", "data.columns.episode=batch"),
    *("data.action_low=[0.0]", "data.action_high=[50.0]", "termination=never", "data.units={level: m, heater: kW}"),
]


@pytest.fixture(scope="module")
def rows() -> list[list[object]]:
    """Two batches of 6 and 4 steps; the second batch is cut by a missing value after its second step."""
    table = []
    for step in range(10):
        batch, state = ("a" if step < 6 else "b"), [float(step % 3), step / 10, 2.0 if step < 6 else 5.0]
        table.append([*state, 5.0 * step, float(step), batch])
    table[8][0] = ""
    return table


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, rows: list[list[object]]) -> Path:
    path = tmp_path_factory.mktemp("page") / "plant <i>.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*NAMES, "heater", "earned", "batch"], *rows])
    return path


@pytest.fixture(scope="module")
def log(path: Path) -> OfflineDataset:
    return open_inputs(compose([f"dataset={path}", *SETTINGS])).dataset


@pytest.fixture(scope="module")
def written(path: Path) -> str:
    """The page that the command writes."""
    page = path.with_suffix(".html")
    assert main(["inspect", str(path), *SETTINGS, "--html", str(page)]) == 0
    return page.read_text()


def test_the_numbers_of_a_column_are_those_of_the_table(log: OfflineDataset) -> None:
    contents = contents_of(log, {"level": "m", "heater": "kW"})
    level, heater = contents.columns[2], contents.columns[3]
    kept = [2.0] * 6 + [5.0] * 3
    assert (level.kind, level.name, level.unit, level.least, level.greatest) == ("observation", "level", "m", 2.0, 5.0)
    assert math.isclose(level.mean, float(np.mean(kept)))
    assert math.isclose(level.std, float(np.std(kept)))
    # Steps inside episodes alone: from batch to batch the level changes, and across the row that was left out.
    assert level.unchanged == 1.0
    assert contents.columns[0].unchanged == 0.0
    assert (heater.kind, heater.unit, heater.least, heater.greatest, heater.bounds) == (
        "action",
        "kW",
        0.0,
        45.0,
        (0, 50),
    )
    assert [column.kind for column in contents.columns] == ["observation"] * 3 + ["action", "reward"]


def test_episodes_are_the_pieces_between_gaps_and_whole_ones_alone_have_returns(log: OfflineDataset) -> None:
    """0 + … + 5 of a whole one; 6 + 7 before a row that was left out, and 9 after it, are parts."""
    contents = contents_of(log, {})
    assert (contents.rows, contents.episodes, contents.finished, contents.unknown_next) == (9, 3, 1, 3)
    assert (contents.returns.low, contents.returns.high, sum(contents.returns.counts)) == (14.5, 15.5, 1)
    assert (contents.lengths.low, contents.lengths.high, sum(contents.lengths.counts)) == (1.0, 6.0, 3)
    assert contents.mean_return == 15.0


@pytest.mark.parametrize("value", [0.0, 7.0, -3e30, 1e-30])
def test_one_value_has_a_histogram_too(value: float) -> None:
    counted = Histogram.of(np.full(5, value))
    assert sum(counted.counts) == 5
    assert counted.low < value < counted.high
    assert counted.counts[BINS // 2] + counted.counts[BINS // 2 - 1] == 5


def test_a_histogram_counts_every_value() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    counted = Histogram.of(values)
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    slow = [int(((values >= low) & (values < high)).sum()) for low, high in pairwise(edges)]
    slow[-1] += 1  # the greatest value belongs to the last bin
    assert counted.counts == slow


def test_components_are_directions_of_most_variance() -> None:
    """Three columns of two causes, of which one has twice the columns: found whatever the units are."""
    rng = np.random.default_rng(0)
    cause, other = rng.standard_normal((2, 5000))
    states = np.stack([1000 * cause, -0.001 * cause, other, np.ones(5000)], 1).astype(np.float32)
    found = coverage_of(states, ("pressure", "flow", "level", "constant"))
    assert found is not None
    assert found.labels == ("component 1 (67 % of the variance)", "component 2 (33 % of the variance)")
    first, second = found.consists_of
    assert re.fullmatch(
        r"Component 1 is mostly (pressure|flow) \(\+0\.71\), (pressure|flow) \(-0\.71\), level \([+-]0\.\d\d\)\.", first
    )
    assert second.startswith("Component 2 is mostly level (+1.00)")
    assert sum(map(sum, found.counts)) == 5000


def test_two_columns_are_shown_as_they_are() -> None:
    states = np.array([[0.0, 5.0], [10.0, 5.0], [10.0, 9.0]], np.float32)
    found = coverage_of(states, ("a", "b"))
    assert found is not None
    assert (found.labels, found.x, found.y, found.consists_of) == (("a", "b"), (0.0, 10.0), (5.0, 9.0), [])
    assert (found.counts[0][0], found.counts[-1][0], found.counts[-1][-1]) == (1, 1, 1)


@pytest.mark.parametrize("states", [np.zeros((5, 3), np.float32), np.arange(5, dtype=np.float32)[:, None]])
def test_without_two_columns_that_change_there_is_no_map(states: np.ndarray) -> None:
    assert coverage_of(states, ("a", "b", "c")) is None


def test_the_page_is_whole_and_loads_nothing(written: str) -> None:
    page = Page(written)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert "http" not in written
    assert "@import" not in written
    used = {*page.links, *re.findall(r"url\(([^)]*)\)", written)}
    assert all(link.startswith("#") and link[1:] in page.ids for link in used)
    assert len(page.ids) == len(set(page.ids))
    titles = set(re.findall(r'aria-labelledby="([^"]+)"', written))
    assert titles == {f"{name}-title" for name in ("observations", "actions", "returns", "lengths", "coverage")}
    assert titles <= set(page.ids)
    assert len(re.findall("<svg ", written)) == 3 + 1 + 3
    assert len(re.findall("<figcaption>", written)) == 5


def test_names_of_a_file_are_texts(written: str) -> None:
    page = Page(written)
    assert HOSTILE in page.texts
    assert "$x^2$ & co" in page.svg_texts
    assert "heater [kW]" in page.svg_texts
    assert "<i>" not in written


def test_the_page_says_what_the_checks_say(written: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(written)
    text = " ".join(page.texts)
    assert "This log can be trained on. Read the" in text
    assert "1 of 10 rows have missing values and are left out" in text
    assert "The next state of 3 rows (33.3 %) is not known" in text
    assert f"python train.py 'dataset={path}'" in text
    assert main(["inspect", str(path), *SETTINGS]) == 0
    said = capsys.readouterr().out
    for name in re.findall(r"^WARN  ([\w-]+):", said, re.MULTILINE):
        assert name in page.texts


def test_a_stop_heads_the_page_with_its_fix(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "log.html"
    assert main(["inspect", str(path), *SETTINGS[:-4], "termination=never", "--html", str(page)]) == 3
    assert capsys.readouterr().out.endswith(f"\n\npage      {page}\n")
    found = Page(page.read_text())
    text = " ".join(found.texts)
    assert "Do not train on this log yet: 1 check says STOP" in text
    assert "set 'data.action_low=[0]' 'data.action_high=[45]', or what full actions are" in text
    assert "Actions beyond the bounds are counted at them." in text
    assert "python train.py" not in text


def test_arrays_that_cannot_be_packed_have_a_page_of_findings(tmp_path: Path) -> None:
    np.savez(tmp_path / "log.npz", obs=np.zeros((9, 2)), action=np.zeros((8, 1)), reward=np.zeros(9), done=np.zeros(9))
    page = tmp_path / "log.html"
    assert main(["inspect", str(tmp_path / "log.npz"), "termination=never", "--html", str(page)]) == 3
    text = page.read_text()
    assert "action has 8 rows, obs has 9" in text
    assert "<svg" not in text


def test_units_that_name_no_column_stop_but_do_not_hide_the_log(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path), *SETTINGS[:-1], "data.units={levl: m}"]) == 3
    said = capsys.readouterr().out
    assert "STOP  units: data.units.levl: there is no such column; did you mean level?" in said
    assert "rows      9, of which 3" in said


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("{folder}/log.csv", "--html {folder}/log.csv must end in .html, as in --html log.html"),
        ("{folder}", "--html {folder} is a folder: give a file, as in --html {folder}/log.html"),
        (
            "{folder}/no/log.html",
            "--html {folder}/no/log.html: there is no folder {folder}/no; make it first, or give another",
        ),
    ],
)
def test_no_log_is_overwritten_by_a_page(
    page: str, says: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(path), *SETTINGS, "--html", page.format(folder=tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {says.format(folder=tmp_path)}\n"
    assert list(tmp_path.iterdir()) == []


def test_verdicts() -> None:
    page = LogPage(dataset="log.npz", settings=(), description="", digest="", contents=None, findings=[])
    stop, warn, fine = Finding("STOP", "arrays", "…"), Finding("WARN", "rewards", "…"), Finding("OK", "reading", "")
    said = {
        (): "This log can be trained on: no check found anything.",
        (fine, warn): "This log can be trained on. Read the warning first.",
        (warn, warn): "This log can be trained on. Read the 2 warnings first.",
        (stop,): "Do not train on this log yet: 1 check says STOP.",
        (stop, warn, stop, warn): "Do not train on this log yet: 2 checks say STOP, 2 say WARN.",
    }
    assert {found: replace(page, findings=found).verdict for found in said} == said
    assert "<strong>rewards</strong>" in render(replace(page, findings=(warn,)))


def test_the_table_of_columns_has_80_letters_and_whole_names(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = path.read_text().replace("level", "temperature_of_the_jacket_in", 1)
    (tmp_path / "log.csv").write_text(text)
    settings = [each.replace("level", "temperature_of_the_jacket_in").replace(": m,", ": m,") for each in SETTINGS]
    assert main(["inspect", str(tmp_path / "log.csv"), *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("column")) :][:6]
    assert all(len(line) <= 80 for line in table)
    assert table[3].startswith("temperature_of_the_jacket_in… ") or table[3].startswith("temperature_of_the_jacket_in ")
    assert table[4].split()[:3] == ["heater", "[kW]", "0"]
