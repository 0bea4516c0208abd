"""What a terminal shows while something takes long."""

import io
import sys
from types import SimpleNamespace

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from mopo_pl.distributed.console import parts, progress


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


def told(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    clock = iter([10.0, 10.2, 74.9])
    monkeypatch.setattr("mopo_pl.distributed.console.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with parts("estimate", 2) as begin:
        begin("u over the [log]")
        begin("fitted Q")
    return stream.getvalue()


def test_parts_of_a_command_are_lines_with_the_time_before_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, io.StringIO()) == (
        "estimate  1/2  u over the [log]  (after 0 s)\nestimate  2/2  fitted Q  (after 65 s)\n"
    )
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert told(monkeypatch, io.StringIO()) == ""


def test_parts_of_a_command_are_one_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, Terminal())
    assert "estimate: fitted Q" in text
    assert "after" not in text
    assert text.endswith("\x1b[1A\x1b[2K")
