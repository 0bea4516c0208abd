"""Imports go one way, as docs/architecture.md draws it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

ORDER = [
    *("errors", "config", "distributed", "storage", "nn", "environments"),
    *("data", "dynamics", "sac", "policy", "export", "serving", "diagnostics"),
    *("callbacks", "assembly", "pages", "report", "run", "collection", "sweep", "comparison", "cli", "__main__"),
]
"""Files and folders of mopo_pl, from the ground up: each imports none that stands after it."""

READS_SCHEMA = {"config", "data", "assembly", "report", "run", "collection", "sweep", "comparison", "cli"}


def imports() -> Iterator[tuple[str, Path, str]]:
    """Each import of the project in it: which part imports, in which file, what."""
    for folder in ("mopo_pl", "callbacks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            within = file.relative_to(ROOT / "mopo_pl") if folder == "mopo_pl" else file.relative_to(ROOT)
            part = within.parts[0].removesuffix(".py")
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    whole = node.module == "mopo_pl"
                    names = [f"mopo_pl.{alias.name}" for alias in node.names] if whole else [node.module or ""]
                yield from ((part, file, name) for name in names if name.startswith("mopo_pl."))


def test_each_part_imports_only_what_stands_below_it() -> None:
    found = {(part, name.split(".")[1]) for part, _, name in imports() if part not in ("theory", "__init__")}
    found = {(part, other) for part, other in found if part != other}
    assert len(found) > 40
    wrong = {pair for pair in found if pair != ("__main__", "theory") and ORDER.index(pair[1]) > ORDER.index(pair[0])}
    assert wrong == set()


def test_the_model_and_the_policy_do_not_know_one_another() -> None:
    assert not [name for part, _, name in imports() if {part, name.split(".")[1]} == {"dynamics", "sac"}]
    both = {"dynamics", "sac"}
    known: dict[Path, set[str]] = {}
    for part, file, name in imports():
        if part == "callbacks":
            known.setdefault(file, set()).add(name.split(".")[1])
    assert [file.name for file, names in known.items() if both <= names] == ["rollout_refresh.py"]


def test_the_configuration_is_read_where_the_page_says() -> None:
    readers = {(part, file.name) for part, file, name in imports() if name == "mopo_pl.config.schema"}
    assert {part for part, _ in readers} == READS_SCHEMA
    assert {file for part, file in readers if part == "data"} == {"opening.py"}


def test_the_theory_stands_apart() -> None:
    of_theory = {(file.name == "parser.py", name.split(".")[1]) for part, file, name in imports() if part == "theory"}
    assert {name for is_parser, name in of_theory if not is_parser} == {"theory"}
    assert {name for is_parser, name in of_theory if is_parser} == {"theory", "distributed", "errors", "storage"}
    assert {part for part, _, name in imports() if name.startswith("mopo_pl.theory")} == {"theory", "__main__"}
