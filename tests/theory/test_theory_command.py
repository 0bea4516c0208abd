"""`python -m mopo_pl theory`: what it prints, draws and refuses, and how little it imports."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mopo_pl import __main__ as program
from mopo_pl.theory.examples import chain_where_leaving_does_not, chain_where_leaving_pays
from mopo_pl.theory.figures import FIGURES, Curves, curves, draw
from mopo_pl.theory.report import _row
from mopo_pl.theory.statements import Inequality

FOLDER = Path(__file__).parents[2] / "docs" / "figures"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert program.main(["theory", *arguments]) == 0
    return capsys.readouterr().out


# The report -----------------------------------------------------------------------------------------------------------


def test_it_prints_every_statement_with_sides_that_agree_with_its_slack(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(
        r"^  (\S.{12}) .*?(-?\d+\.\d{4}) [=≥] +(-?\d+\.\d{4})   (residual|slack) (\S+)$",
        said(capsys, "--seed", "5"),
        re.MULTILINE,
    )
    names = [name.strip() for name, *_ in rows]
    of_policy = ["Lemma 4.1", "Corollary, =", "Corollary, ≥", "(6)", "(7), =", "(7), ≥", "Two-sided"]
    assert names == [*of_policy, *of_policy, "Theorem", "Behaviour", "Gain, risk"]
    for name, left, right, kind, apart in rows:
        if kind == "residual":
            assert left == right, name
            assert float(apart) < 1e-9
        else:
            assert float(left) - float(right) == pytest.approx(float(apart), abs=2e-4), name
            assert float(apart) >= 0


def test_a_seed_is_a_case_and_another_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (said(capsys, "--seed", seed) for seed in ("3", "3", "4"))
    assert first == again != other
    assert "Winner: π̂, with actions " in first


def test_a_statement_that_fails_would_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert "DOES NOT HOLD" not in said(capsys, "--seed", "0")
    assert _row(Inequality("(7), ≥", "η_M(π) ≥ η_M̃(π)", 1.0, 2.0)).endswith("slack -1.0000  DOES NOT HOLD")


@pytest.mark.parametrize("arguments", [["--states", "1", "--actions", "1"], ["--states", "5", "--discount", "0"]])
def test_sizes_are_the_users(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert f"M: {arguments[1]} states" in said(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seed", "-1"], "--seed -1 must lie in [0, 2**31)"),
        (["--states", "0"], "--states 0 must be at least 1"),
        (["--discount", "1"], "--discount 1.0 must lie in [0, 0.999]"),
        (["--discount", "nan"], "--discount nan must lie in [0, 0.999]"),
        (["--states", "12"], "--states 12 --actions 3: 3^12 policies are too many to enumerate"),
        (["--states", "90000000", "--actions", "1"], "--states 90000000 must be at most 60"),
        (["--figure", "somewhere", "--seed", "1"], "--figure draws two fixed examples: remove --seed"),
        (["--figure", ""], "--figure '' is not a folder"),
        (["--figure", __file__], f"--figure {__file__} cannot be written (Not a directory)"),
    ],
)
def test_a_bad_option_is_one_error(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert program.main(["theory", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")


def test_neither_torch_nor_anything_else_but_numpy_is_imported_for_it() -> None:
    code = "import sys, mopo_pl.__main__ as p; p.main(['theory']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "numpy" in loaded
    assert not loaded & {"torch", "lightning", "matplotlib", "scipy", "gymnasium", "hypothesis"}


def test_the_package_imports_numpy_and_itself_alone() -> None:
    folder = Path(__file__).parents[2] / "mopo_pl" / "theory"
    sources = [path for path in folder.glob("*.py") if path.name != "parser.py"]
    imported = {name for path in sources for name in re.findall(r"^ *(?:from|import) ([\w.]+)", path.read_text(), re.M)}
    strangers = {name for name in imported if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy"}}
    assert {name for name in strangers if not name.startswith("mopo_pl.theory")} == {
        "matplotlib",
        "matplotlib.axes",  # for types alone
        "matplotlib.figure",
    }


# The figures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pays() -> Curves:
    return curves(chain_where_leaving_pays(), farthest=4.0, points=17)


@pytest.fixture(scope="module")
def does_not() -> Curves:
    return curves(chain_where_leaving_does_not(), farthest=1.6, points=17)


def test_where_leaving_pays_the_admissible_penalty_leaves_and_a_larger_one_forgoes_it(pays: Curves) -> None:
    admissible = int(np.argmin(np.abs(pays.coefs - pays.admissible)))
    assert pays.coefs[admissible] == pytest.approx(pays.admissible)
    assert pays.true[admissible] == pytest.approx(pays.optimal)
    assert pays.behaviour < pays.true[-1] < 0.6 * pays.optimal


def test_where_leaving_does_not_pay_no_penalty_falls_and_the_admissible_one_is_safe(does_not: Curves) -> None:
    assert does_not.true[0] < does_not.behaviour < does_not.true[-1]
    assert does_not.penalised[0] > does_not.optimal


@pytest.mark.parametrize("which", ["pays", "does_not"])
def test_beyond_gamma_c_the_curves_are_ordered_as_the_theorem_says(which: str, request: pytest.FixtureRequest) -> None:
    drawn: Curves = request.getfixturevalue(which)
    claimed = drawn.coefs >= drawn.admissible * (1 - 1e-9)
    assert claimed.sum() >= 5
    assert (drawn.true[claimed] >= drawn.penalised[claimed] - 1e-9).all()
    assert (drawn.penalised[claimed] >= drawn.bound[claimed] - 1e-9).all()
    assert (np.diff(drawn.bound) <= 1e-9).all()
    assert (np.diff(drawn.penalised) <= 1e-9).all()


def test_the_command_draws_the_figures_that_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same numbers in every curve; bytes differ from one version of matplotlib to the next."""
    printed = said(capsys, "--figure", str(tmp_path / "new" / "folder")).split()
    assert printed == [str(tmp_path / "new" / "folder" / file) for file in FIGURES]
    for path in map(Path, printed):
        fresh, kept = (lines(text.read_text()) for text in (path, FOLDER / path.name))
        assert set(fresh) == {"true", "penalised", "bound", "unclaimed", "optimal", "behaviour", "admissible"}
        for name, points in fresh.items():
            np.testing.assert_allclose(points, kept[name], atol=0.01, err_msg=f"{path.name}: {name}")
        assert "<dc:date>" not in path.read_text()


def lines(svg: str) -> dict[str, np.ndarray]:
    """The points of each curve that has a name."""
    found = re.findall(r'<g id="(\w+)">\s*<path d="([^"]*)"', svg)
    wanted = {"true", "penalised", "bound", "unclaimed", "optimal", "behaviour", "admissible"}
    return {name: np.array(re.findall(r"-?\d+\.?\d*", path), float) for name, path in found if name in wanted}


def test_a_folder_that_is_a_file_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert program.main(["theory", "--figure", str(tmp_path / "taken")]) == 2
    assert "cannot be written (Not a directory): choose another folder" in capsys.readouterr().err


def test_drawing_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {file: (example, farthest, title) for file, (example, farthest, title) in list(FIGURES.items())[:1]}
    monkeypatch.setattr("mopo_pl.theory.figures.FIGURES", few)
    monkeypatch.setattr("mopo_pl.theory.figures.POINTS", 5)
    (first,), (second,) = draw(tmp_path / "a"), draw(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
