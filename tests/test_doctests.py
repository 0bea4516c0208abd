"""The examples in docstrings print what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

import mopo_pl

ROOT = Path(mopo_pl.__file__).parent
SCRIPTS = {"mopo_pl.__main__"}
"""Modules without examples that are run, not imported."""


def modules() -> list[str]:
    """Dotted names of all modules; `mopo_pl/callbacks` is a link, which `rglob` does not follow."""
    files = [*ROOT.rglob("*.py"), *(ROOT / "callbacks").glob("*.py")]
    names = {".".join(("mopo_pl", *file.relative_to(ROOT).with_suffix("").parts)) for file in files}
    return sorted({name.removesuffix(".__init__") for name in names} - SCRIPTS)


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_print_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    for test in examples(name):
        doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)
    assert list(tmp_path.iterdir()) == []


def test_public_names_have_examples_and_none_is_skipped() -> None:
    tests = {test.name: test for name in modules() for test in examples(name)}
    shown = (
        "policy.policy.Policy",
        "data.log.opening.open_dataset",
        "theory.statements.theorem",
        "dynamics.penalties.max_aleatoric",
    )
    assert {f"mopo_pl.{name}" for name in shown} <= set(tests)
    assert not [name for name, test in tests.items() for example in test.examples if doctest.SKIP in example.options]
