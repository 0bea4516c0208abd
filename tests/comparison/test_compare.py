"""What a comparison says of runs: golden pages, groups, and what it leaves out."""

import csv
import json
import re
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mopo_pl.__main__ import main
from mopo_pl.comparison.figure import draw, seed_curves, svg
from mopo_pl.comparison.finished_run import find, read_run
from mopo_pl.comparison.groups import blocks_of
from mopo_pl.comparison.page import Comparison, markdown
from mopo_pl.config.compose import compose
from mopo_pl.errors import InputError

Make = Callable[..., Path]


@pytest.fixture
def four(make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two settings of two seeds, in folders inside `runs`."""
    monkeypatch.chdir(tmp_path)
    for coef, seed, returns, curve in (
        (0.5, 0, [-200.0, -220.0], [-900.0, -210.0]),
        (0.5, 1, [-140.0, -160.0], [-800.0, -300.0]),
        (2.5, 0, [-150.0, -170.0], [-700.0, -100.0]),
        (2.5, 1, [-300.0, -310.0], [-600.0, -400.0]),
    ):
        arguments = [f"penalty.coef={coef}", f"seed={seed}"]
        make_run(f"runs/{coef}_s{seed}", arguments, returns=returns, curve=curve, seconds=60 + seed)
    return Path("runs")


GOLDEN = """\
# Comparison

- 4 policies tried, 2 settings compared.
- The best of 2 settings is optimistic: it was chosen by the returns that it is shown with. Train it again with new seeds before you report it; a choice by returns in the environment is not offline.
- Some settings have fewer than three runs: a difference between them may be chance.

## pendulum (aaaa0000) in Pendulum-v1

Mean return of the log: -850.0.

|  | setting | seeds | last | last ten | best | IQM of last [95 %] | score | wall time |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1 | penalty.coef=0.5 | 2 (0, 1) | -180.0 ± 30.0 | -552.5 ± 2.5 | -255.0 ± 45.0 | -180.0 [-210.0, -150.0] | 97.2 | 60 s |
| 2 | penalty.coef=2.5 | 2 (0, 1) | -232.5 ± 72.5 | -450.0 ± 50.0 | -250.0 ± 150.0 | -232.5 [-305.0, -160.0] | 92.4 | 60 s |

Probability that a run of the row beats one of the column:

|  | 1 | 2 |
| --- | --- | --- |
| 1 |  | 0.75 [0.00, 1.00] |
| 2 | 0.25 [0.00, 1.00] |  |

"""


def test_the_page_is_this_one(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(four)]) == 0
    page = Path("comparison/compare.md").read_text()
    assert page.startswith(GOLDEN)
    method = page.removeprefix(GOLDEN)
    assert method.startswith("IQM: the mean without the lowest ⌊n/4⌋ and the highest ⌊n/4⌋ of n runs")
    assert "10000 resamples, 95 %" in method
    said = capsys.readouterr().out
    assert said.startswith(GOLDEN)
    assert said.rstrip().endswith(
        "comparison: compare.md, compare.csv, compare.png, compare.html and 4 files in final_returns"
    )


def test_the_table_of_runs_is_this_one(four: Path) -> None:
    assert main(["compare", str(four), "--out", "out"]) == 0
    rows = list(csv.DictReader(Path("out/compare.csv").read_text().splitlines()))
    assert float(rows[0].pop("score")) == pytest.approx(100 * (1234 - 210) / 1084)
    assert rows[0] == {
        **{"log": "pendulum", "hash": "aaaa0000bbbb1111", "environment": "Pendulum-v1", "setting": "penalty.coef=0.5"},
        **{"seed": "0", "last": "-210.0", "last10": "-555.0", "best": "-210.0"},
        **{"log_return": "-850.0", "seconds": "60.0", "run": str(four.resolve() / "0.5_s0")},
    }
    assert [(row["setting"][-3:], row["seed"]) for row in rows] == [
        ("0.5", "0"),
        ("0.5", "1"),
        ("2.5", "0"),
        ("2.5", "1"),
    ]
    assert Path("out/compare.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_holds_the_same_numbers(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(four), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (block,) = found["blocks"]
    first, second = block["settings"]
    assert (first["label"], first["seeds"], first["returns"]) == ("penalty.coef=0.5", [0, 1], [-210.0, -150.0])
    assert first["last"] == {"mean": -180.0, "std": 30.0}
    assert (second["iqm"], second["interval"]) == (-232.5, [-305.0, -160.0])
    assert block["improvement"] == [[None, [0.75, [0.0, 1.0]]], [[0.25, [0.0, 1.0]], None]]
    assert found["tried"] == 4


class Parts(HTMLParser):
    """What a page refers to, and the text of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inside = tag == "td"
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells.append(data)
            self.inside = False


def test_the_html_needs_nothing_else_and_holds_the_tables_and_the_curves(four: Path) -> None:
    assert main(["compare", str(four)]) == 0
    page, parts = Path("comparison/compare.html").read_text(), Parts()
    parts.feed(page)
    assert all(link.startswith("#") for link in parts.links)
    assert not re.search(r"url\((?!['\"]?#)|@import|<script", page)
    assert {"svg", "table", "meta"} <= set(parts.tags)
    assert "-180.0 [-210.0, -150.0]" in parts.cells
    assert "penalty.coef=2.5" in parts.cells
    assert "color-scheme: light dark" in page
    assert 'name="viewport"' in page


def test_the_same_runs_give_the_same_files(four: Path) -> None:
    for out in ("first", "second"):
        assert main(["compare", str(four), "--out", out]) == 0
    for name in ("compare.md", "compare.csv", "compare.html", "compare.png"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()


def test_names_in_a_page_are_text(make_run: Make, tmp_path: Path) -> None:
    run = make_run("run", ["seed=0"], returns=[1.0], log=("<script>alert(1)</script>|x", "ab"))
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "<script" not in (tmp_path / "out/compare.html").read_text()


# Groups


def test_runs_of_other_logs_and_environments_are_compared_apart(make_run: Make) -> None:
    runs = [
        make_run("a", ["penalty.coef=1", "seed=0"], returns=[-100.0], log=("x", "aa")),
        make_run("b", ["penalty.coef=2", "seed=0"], returns=[-300.0], log=("x", "aa")),
        make_run("c", ["penalty.coef=1", "seed=0"], returns=[-200.0], log=("x", "bb")),
        make_run("d", ["penalty.coef=1", "seed=0", "env_kwargs.g=5"], returns=[-500.0], log=("x", "bb")),
    ]
    comparison = Comparison.of(find(runs))
    assert [(block.log[1], block.environment, [s.label for s in block.settings]) for block in comparison.blocks] == [
        ("aa", "Pendulum-v1", ["penalty.coef=1.0", "penalty.coef=2.0"]),
        ("bb", "Pendulum-v1", ["penalty.coef=1.0"]),
        ("bb", "Pendulum-v1 {g: 5}", ["penalty.coef=1.0"]),
    ]
    page = markdown(comparison)
    assert "- The runs are of 3 logs or environments, which are compared apart." in page
    assert "## Over all logs, by normalised score" in page
    (overall,) = comparison.overall
    assert [scores.tolist() for scores in overall.scores] == [
        [100 * (value + 1234) / 1084] for value in (-100.0, -200.0, -500.0)
    ]


def test_without_references_nothing_is_averaged_over_logs(make_run: Make) -> None:
    runs = [
        make_run(name, ["seed=0"], returns=[1.0], log=("x", name), env_id="CartPole-v1", behaviour_return=1.0)
        for name in ("a", "b")
    ]
    comparison = Comparison.of(find(runs))
    assert comparison.overall == ()
    assert "| – |" in markdown(comparison)


def test_what_changes_no_result_makes_no_setting(make_run: Make) -> None:
    runs = [
        make_run(
            "a",
            ["seed=0", "threads=1", "stage=policy", "dataset=pendulum", "dynamics_from=/x"],
            returns=[1.0],
            curve=[1.0],
        ),
        make_run(
            "b", ["seed=1", "compile=false", "logger=none", "group=g", "checkpoint.every_minutes=9"], returns=[2.0]
        ),
        make_run("c", ["seed=2", "sac.schedule_epochs=15"], returns=[3.0]),
    ]
    (block,) = blocks_of([read_run(run) for run in runs])
    assert [(setting.label, len(setting.runs)) for setting in block.settings] == [("all runs", 3)]
    assert (block.settings[0].last10, block.settings[0].best) == (None, None)


def test_a_preset_stands_for_what_it_decides(make_run: Make) -> None:
    presets = {"default": [], "d4rl-v2": ["penalty.coef=1", "rollout.horizon=5"]}
    runs = [
        make_run(f"{name}{tau}", [f"preset={name}", *more, f"sac.tau={tau}"], returns=[tau])
        for name, more in presets.items()
        for tau in (0.01, 0.02)
    ]
    (block,) = blocks_of([read_run(run) for run in runs])
    assert sorted(setting.label for setting in block.settings) == [
        f"preset={name}, sac.tau={tau}" for name in ("d4rl-v2", "default") for tau in (0.01, 0.02)
    ]


def test_an_ensemble_that_is_no_hash_is_none(make_run: Make) -> None:
    run = make_run("runs/a", ["seed=0"], returns=[1.0])
    (run / "provenance.json").write_text(json.dumps({"ensemble": {}}))
    assert read_run(run).ensemble is None


def test_seeds_that_share_an_ensemble_or_are_the_same_are_pointed_out(make_run: Make) -> None:
    runs = [make_run(f"{seed}", [f"seed={seed}"], returns=[float(seed)]) for seed in (0, 1)]
    for run in runs:
        (run / "provenance.json").write_text(json.dumps({"ensemble": "cafe"}))
    notes = Comparison.of(find(runs)).notes
    assert (
        notes[1]
        == "Runs of one setting share an ensemble: their intervals leave out what another ensemble would change."
    )
    (runs[1] / "provenance.json").write_text(json.dumps({"ensemble": "beef"}))
    twin = make_run("twin", ["seed=1"], returns=[5.0])
    notes = Comparison.of(find([*runs, twin])).notes
    assert notes[1] == "Some settings have several runs of one seed: these are not independent."


# What is found, and what is left out


def test_unfinished_and_damaged_runs_are_named_and_left_out(
    four: Path, make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (make_run("runs/a_unfinished", ["seed=5"], returns=[1.0]) / "result.json").unlink()
    (make_run("runs/b_damaged", ["seed=6"], returns=[1.0]) / "result.json").write_text('{"final')
    make_run("runs/c_no_return", ["seed=7"], returns=[1.0], env_id=None)
    make_run("runs/d_ensemble", ["stage=dynamics"], returns=[1.0], updates=0)
    make_run("runs/e_nan", ["seed=8"], returns=[1.0], final_return=float("nan"))
    (make_run("runs/f_metrics", ["seed=9"], returns=[1.0], curve=[1.0]) / "metrics.jsonl").write_text(
        '{"update": 1, "evaluation/return": "high"}\n'
    )
    assert main(["compare", str(four)]) == 0
    page = capsys.readouterr().out
    assert "- 10 policies tried, 2 settings compared, 6 left out." in page
    left = dict(re.findall(r"^- \S*/runs/(\w+): (.*)$", page, re.MULTILINE))
    assert "result.json is damaged (Unterminated string" in left.pop("b_damaged")
    assert left.pop("f_metrics").startswith("its files are damaged (ValueError: ")
    assert left == {
        "a_unfinished": "it is not finished",
        "c_no_return": "it has no return: it was trained without env_id",
        "d_ensemble": "it trained an ensemble alone",
        "e_nan": "its policy gave no numbers",
    }


def test_the_runs_of_a_sweep_are_those_of_its_manifest(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = {"command": "c", "settings": {}, "search": None, "runs": ["0.5_s0", "2.5_s1", "3.5_s0"], "ensembles": {}}
    (four / "sweep.json").write_text(json.dumps(manifest))
    assert main(["compare", str(four)]) == 0
    page = capsys.readouterr().out
    assert "- 3 policies tried, 2 settings compared, 1 left out." in page
    assert "- runs/3.5_s0: it has not begun" in page
    assert (four / "compare.html").exists()
    assert not Path("comparison").exists()


def test_one_run_has_no_interval_and_no_rival(
    make_run: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = make_run("run", ["seed=3"], returns=[-150.0], curve=[-700.0])
    assert main(["compare", str(run), str(run), "--out", str(tmp_path / "out")]) == 0
    page = capsys.readouterr().out
    assert "| 1 | all runs | 1 (3) | -150.0 | -700.0 | -700.0 | -150.0 | 100.0 | 60 s |" in page
    assert "Probability" not in page
    assert "optimistic" not in page


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere", "nowhere is not a folder: give folders of runs, or of a sweep"),
        ("empty", "empty holds no run: there is no config.yaml in it, or in a folder inside it"),
    ],
)
def test_a_path_without_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["compare", path]) == 2
    assert capsys.readouterr().err == f"error: {problem}\n"


def test_where_every_run_is_left_out_each_is_named(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("run", ["seed=0"], returns=[1.0], env_id=None)
    assert main(["compare", str(run)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no run to compare",
        f"error: {run}: it has no return: it was trained without env_id",
    ]


def test_a_folder_that_cannot_be_written_is_refused(four: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["compare", str(four), "--out", "file"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --out file cannot be written (Not a directory)")


# Curves and episodes


def test_a_curve_is_the_mean_over_seeds_where_all_were_evaluated(make_run: Make) -> None:
    runs = [
        make_run("a", ["seed=0"], returns=[0.0], curve=[1.0, 2.0, 30.0]),
        make_run("b", ["seed=1"], returns=[0.0], curve=[3.0, 8.0]),
    ]
    (block,) = blocks_of([read_run(run) for run in runs])
    updates, low, mean, high = seed_curves(block.settings[0])
    assert (updates.tolist(), low.tolist()) == ([1000, 2000], [1.0, 2.0])
    assert (mean.tolist(), high.tolist()) == ([2.0, 5.0], [3.0, 8.0])
    (line, of_the_log) = draw([block]).axes[0].get_lines()
    assert list(line.get_ydata()) == [2.0, 5.0]  # type: ignore[arg-type]
    assert list(of_the_log.get_ydata()) == [-850.0, -850.0]  # type: ignore[arg-type]


def test_runs_without_evaluations_are_drawn_without_a_curve(make_run: Make) -> None:
    (block,) = blocks_of([read_run(make_run("a", ["seed=0"], returns=[0.0]))])
    assert "<svg" in svg(draw([block]))


def test_the_returns_of_each_policy_are_read_as_unifloral_reads_them(four: Path, make_run: Make) -> None:
    make_run("runs/old", ["seed=9"], returns=[-1.0], final_returns=[])
    make_run("runs/bc", ["preset=bc", "seed=9"], returns=[-300.0, -500.0])
    assert main(["compare", str(four)]) == 0
    files = sorted(Path("comparison/final_returns").iterdir())
    assert len(files) == 5
    read = [unifloral(file) for file in files]
    assert [data["algorithm"] for data in read] == ["bc", *["mopo"] * 4]
    assert {data["dataset"] for data in read} == {"pendulum"}
    assert len({data["datetime"] for data in read[1:]}) == 4
    assert read[0]["final_returns"].tolist() == [-300.0, -500.0]
    np.testing.assert_allclose(read[0]["final_scores"], 100 * (np.array([-300.0, -500.0]) + 1234) / 1084)
    assert sorted((int(data["seed"]), str(data["penalty.coef"])) for data in read[1:]) == [
        *((0, "0.5"), (0, "2.5"), (1, "0.5"), (1, "2.5")),
    ]


def unifloral(file: Path) -> dict[str, Any]:
    """As `parse_and_load_npz` of Unifloral's evaluation reads a file, without pickles."""
    pattern = r"([^_]+(?:_[^_]+)?)_(.+)_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})"
    match = re.match(pattern, file.name)
    assert match is not None
    algorithm, dataset, time = match.groups()
    data = dict(np.load(file, allow_pickle=False))
    data |= {"algorithm": algorithm, "dataset": dataset, "datetime": datetime.strptime(time, "%Y-%m-%d_%H-%M-%S")}
    data.update(data.pop("args", np.array({})).item())
    assert data["final_returns"].ndim == 1
    assert data["final_returns"].mean() == data["final_returns_mean"]
    return data


@pytest.mark.parametrize(
    "argument",
    ["report=false", "data.device=cpu", "health.after=9", "estimate=false", "run_dir=x", "trainer.profiler=simple"],
)
def test_what_changes_no_result_is_no_setting(make_run: Make, argument: str) -> None:
    runs = [make_run("a", ["seed=0"], returns=[1.0]), make_run("b", ["seed=1", argument], returns=[1.0])]
    (block,) = blocks_of([read_run(run) for run in runs])
    (setting,) = block.settings
    assert [run.seed for run in setting.runs] == [0, 1]


def test_a_mistake_of_this_project_is_not_called_damage(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("run", ["seed=0"], returns=[1.0])

    def mistaken(config: object) -> dict[str, str]:
        raise AttributeError("no such name")

    monkeypatch.setattr("mopo_pl.comparison.finished_run._settings", mistaken)
    with pytest.raises(AttributeError, match="no such name"):
        read_run(run)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("result.json", "[]"),
        ("result.json", "[" * 100_000),
        ("result.json", '{"final_return": 1, "env_id": "A-v0"}'),
        ("result.json", {"seconds": [1.0]}),
        ("result.json", {"dataset": "pendulum"}),
        ("result.json", {"seed": float("inf")}),
        ("result.json", {"last10_return": "high"}),
        ("config.yaml", "- 1"),
        ("config.yaml", "a: [1"),
        ("config.yaml", "a: '${'"),
        ("config.yaml", "a: \udcff"),
        ("metrics.jsonl", '{"evaluation/return": 1}\n'),
        ("provenance.json", "[]"),
    ],
)
def test_damage_of_any_file_is_one_sentence(make_run: Make, file: str, text: str | dict[str, Any]) -> None:
    run = make_run("run", ["seed=0"], returns=[1.0], curve=[1.0])
    if isinstance(text, dict):
        text = json.dumps({**json.loads((run / file).read_text()), **text})
    (run / file).write_text(text, errors="surrogateescape")
    with pytest.raises(
        InputError,
        match=r"^(its files are damaged \(\w+: .*\)|\S+ is damaged \(.*\): restore it from a copy, or remove it|"
        r"\S+config\.yaml (must be a map of keys|is not valid YAML: ).*)$",
    ):
        read_run(run)


def test_an_old_run_is_read_with_the_settings_that_it_knows(make_run: Make) -> None:
    """A key of a later version is absent in its configuration."""
    old, new = (make_run(name, [f"seed={seed}"], returns=[1.0]) for seed, name in enumerate(("old", "new")))
    text = (old / "config.yaml").read_text()
    assert "  value_coef: 0.5\n" in text
    (old / "config.yaml").write_text(text.replace("  value_coef: 0.5\n", ""))
    labels = {setting.label for block in blocks_of([read_run(old), read_run(new)]) for setting in block.settings}
    assert labels == {"penalty.value_coef=not known", "penalty.value_coef=0.5"}
    assert compose([]).penalty.value_coef == 0.5


def test_a_damaged_manifest_is_an_error(four: Path) -> None:
    (four / "sweep.json").write_text("[]")
    with pytest.raises(InputError, match=r"runs/sweep\.json is damaged"):
        find([four])
