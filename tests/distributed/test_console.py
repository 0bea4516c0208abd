"""What a terminal shows while something takes long."""

import io
import sys

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from mopo_pl.distributed.console import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    with progress("reading [log].csv", 10) as show:
        show(5)
        show(10)
    return stream.getvalue()


def test_a_terminal_shows_a_bar_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal())
    assert "reading [log].csv" in text
    assert text.endswith("\x1b[1A\x1b[2K")


def test_elsewhere_and_on_other_ranks_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert shown(monkeypatch, Terminal()) == ""
