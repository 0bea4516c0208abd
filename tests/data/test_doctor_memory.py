"""The checks of a large log need little memory beside it."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import loading
import pytest

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.doctor import checks
from mopo_pl.data.log.opening import open_dataset

ROWS = 200_000
"""More than any fit is made to."""
MOST = 6 * 8
"""Bytes that a check may take for each row: six columns in float64."""


def peaks(rows: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Most memory that each check took while it ran [bytes]."""
    found: dict[str, int] = {}

    def watched(name: str, check: Callable) -> Callable:
        def run(log: object):
            tracemalloc.start()
            verdicts = list(check(log))
            found[name] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return iter(verdicts)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(checks, "CHECKS", {name: watched(name, check) for name, check in checks.CHECKS.items()})
        path = loading.write("npz", rows, folder)
        open_dataset(name=str(path), data=DataConfig(cache=False), env_id=None, env_kwargs={})
    return found


def test_a_check_takes_six_columns_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (peaks(rows, tmp_path, monkeypatch) for rows in (ROWS, 2 * ROWS))
    grown = {name: (many[name] - few[name]) / ROWS for name in many}
    assert {name: round(each) for name, each in grown.items() if each > MOST} == {}
