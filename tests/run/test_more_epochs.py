"""A finished run that is given another number of epochs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mopo_pl.cli import main


def test_fewer_epochs_than_were_made_are_refused_and_the_run_is_left_as_it_is(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "trainer.max_epochs=3")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    capsys.readouterr()
    assert main([f"resume={folder}", "trainer.max_epochs=2"]) == 2
    assert "trainer.max_epochs=2 is less than the 3 epochs that" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert main([f"resume={folder}"]) == 0


def test_an_actor_whose_schedule_has_ended_is_said_to_learn_no_more(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "trainer.max_epochs=2", "sac.actor_schedule=cosine")
    assert "learns no more" not in capsys.readouterr().out
    assert main([f"resume={folder}", "trainer.max_epochs=3"]) == 0
    assert "falls to 0 in the first 2 of 3 epochs" in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text())["updates"] == 60
