"""docs/theory.md says what is so: functions exist, quoted lines stand where it says, outputs are those of the commands."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from mopo_pl import __main__ as program
from mopo_pl.theory import statements

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "theory.md").read_text()
LINKS = re.findall(r"\[`([\w.]+)`\]\((\.\./[\w/.]+\.py)\)(?:: `([^`]+)`)?", PAGE)


def source(name: str, path: Path) -> str:
    """The text of a function, a class or a method (`Class.method`) of a file; KeyError where there is none."""
    text = path.read_text()
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.stmt | None = None
    for part in name.split("."):
        named = {n.name: n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        node = named[part]
        body = node.body
    assert node is not None
    return ast.get_source_segment(text, node) or ""


@pytest.mark.parametrize(("name", "path", "line"), LINKS)
def test_a_named_function_exists_and_holds_the_quoted_line(name: str, path: str, line: str) -> None:
    found = source(name, (ROOT / "docs" / path).resolve())
    assert line in found


def test_every_statement_is_on_the_page_and_beside_a_line_of_the_training_code() -> None:
    linked = {name for name, path, _ in LINKS if path.endswith("theory/statements.py")}
    public = {
        name
        for name, function in inspect.getmembers(statements, inspect.isfunction)
        if function.__module__ == statements.__name__ and not name.startswith("_")
    }
    assert public - linked == {"about_policy", "value_gap"}
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and "mopo_pl/theory" in row]
    assert len(rows) == 10
    for row in rows:
        assert any(line and "/theory/" not in path and f"`{name}`" in row for name, path, line in LINKS), row


def test_every_file_the_page_links_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_report_on_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """But for residuals, which are rounding and differ from machine to machine."""
    assert "python -m mopo_pl theory --seed 0" in PAGE
    assert program.main(["theory", "--seed", "0"]) == 0
    printed = capsys.readouterr().out.strip()
    shown = PAGE.split("```\n")[2].strip()
    assert [re.sub(r"residual.*", "", row) for row in shown.splitlines()] == [
        re.sub(r"residual.*", "", row) for row in printed.splitlines()
    ]
