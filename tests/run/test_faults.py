"""The table of docs/reliability.md, row by row."""

from pathlib import Path

import pytest
from faults import FAULTS, Fault, bring_about, row

PAGE = Path(__file__).parents[2] / "docs/reliability.md"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_a_fault_is_answered_as_the_page_says(fault: Fault, tmp_path: Path) -> None:
    code, lines = bring_about(fault, tmp_path)
    assert code == fault.code
    assert row(fault, lines) in PAGE.read_text().splitlines()
    if "nothing" in fault.kept:
        assert not (tmp_path / "run").is_dir()
    if fault.kept == "the last checkpoint":
        assert list((tmp_path / "run/checkpoints").glob("*.ckpt"))
    assert not list(tmp_path.rglob("*.part"))


def test_the_page_has_these_rows_and_no_other() -> None:
    table = PAGE.read_text().partition("## Faults")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0][2:] for line in rows] == [fault.what for fault in FAULTS]
