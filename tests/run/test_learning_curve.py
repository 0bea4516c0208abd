"""The picture of a run's return by update."""

import json
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "learning_curve.py"
RETURNS = ROOT / "benchmarks" / "returns.py"
# The words and the numbers of the axes; a path's coordinates differ between versions of matplotlib.
WORDS = re.compile(r">([^<]+)</text>")


def draw(run: Path, out: Path) -> str:
    """The picture as text; it is SVG."""
    subprocess.run([sys.executable, str(SCRIPT), str(run), "--out", str(out)], check=True, capture_output=True)
    ElementTree.parse(out)
    return out.read_text()


def test_a_run_is_drawn_with_its_spread_and_the_mean_of_its_log(train: Callable[..., Path], tmp_path: Path) -> None:
    picture = draw(train("run", "trainer.max_epochs=2"), tmp_path / "new" / "curve.svg")
    for text in ("policy", "mean of the log", "updates of the policy", "return of an episode"):
        assert f">{text}</text>" in picture
    assert "FillBetween" in picture or "PolyCollection" in picture
    assert len(picture) < 30_000


def test_the_kept_picture_is_that_of_the_kept_curve(tmp_path: Path) -> None:
    picture = draw(ROOT / "benchmarks" / "results" / "first_command.json", tmp_path / "curve.svg")
    kept = (ROOT / "docs" / "figures" / "learning_curve.svg").read_text()
    assert WORDS.findall(picture) == WORDS.findall(kept)
    assert "mean of the log" in WORDS.findall(kept)


def test_the_page_of_results_shows_the_kept_runs(tmp_path: Path) -> None:
    """Its table and its picture are what the command there prints and draws."""
    out = tmp_path / "new" / "returns.svg"
    command = [sys.executable, str(RETURNS), "--table", "--figure", str(out)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert len(table.splitlines()) > 2
    assert table in (ROOT / "docs" / "results.md").read_text()
    words = WORDS.findall(out.read_text())
    assert words == WORDS.findall((ROOT / "docs" / "figures" / "returns.svg").read_text())
    kept = [json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results" / "returns").glob("*.json")]
    assert {run["log"] for run in kept} | {run["variant"] for run in kept} <= set(words)


def test_kept_runs_of_a_log_are_of_the_same_rows() -> None:
    """Two logs of one robot are easily taken for each other, and their returns compared."""
    kept = [json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results" / "returns").glob("*.json")]
    declared = runpy.run_path(str(RETURNS))["LOGS"]
    for run in kept:
        assert run["dataset_hash"].startswith(declared[run["log"]].hash), (run["log"], run["variant"], run["seed"])


def test_several_runs_are_drawn_with_their_seeds(tmp_path: Path) -> None:
    curves = ROOT / "benchmarks" / "results" / "dmsd.json"
    picture = draw(curves, tmp_path / "curve.svg")
    for run in json.loads(curves.read_text()):
        assert f">policy, seed {run['seed']}</text>" in picture


def test_nothing_in_the_pictures_is_black_or_white(tmp_path: Path) -> None:
    # They have to be read on a light and on a dark page.
    drawn = draw(ROOT / "benchmarks" / "results" / "dmsd.json", tmp_path / "curve.svg")
    for picture in (drawn, (ROOT / "docs" / "figures" / "returns.svg").read_text()):
        body = picture.partition("</metadata>")[2]
        for colour in ("#000000", "#ffffff", "black", "white"):
            assert colour not in body
