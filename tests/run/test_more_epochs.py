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


def test_an_ensemble_that_is_not_finished_may_be_given_more_epochs(
    train: Callable[..., Path], stop_after: Callable[[int | None], int], same_weights: Callable[[Path, Path, str], bool]
) -> None:
    stop_after(3)
    folder = train("run", "dynamics.max_epochs=1", code=130)
    stop_after(None)
    assert main([f"resume={folder}", "dynamics.max_epochs=3"]) == 0
    whole = train("whole", "dynamics.max_epochs=3")
    assert same_weights(folder, whole, "dynamics.safetensors")
    assert same_weights(folder, whole, "policy/policy.safetensors")


@pytest.mark.parametrize("stop", [None, 15])
def test_a_trained_ensemble_is_given_no_more_epochs(
    train: Callable[..., Path],
    stop_after: Callable[[int | None], int],
    capsys: pytest.CaptureFixture[str],
    stop: int | None,
) -> None:
    """Neither in a finished run, nor in one that was stopped while its policy was trained."""
    stop_after(stop)
    folder = train("run", "dynamics.max_epochs=1", code=130 if stop else 0)
    stop_after(None)
    assert (folder / "dynamics.json").exists()
    capsys.readouterr()
    assert main([f"resume={folder}", "dynamics.max_epochs=null"]) == 2
    assert "dynamics.max_epochs=null: the ensemble of" in capsys.readouterr().err
    assert main([f"resume={folder}"]) == 0


def test_a_run_in_the_ensemble_of_another_is_given_no_more_epochs_of_it(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = train("ensemble", "stage=dynamics")
    folder = train("run", "stage=policy", f"dynamics_from={ensemble}")
    capsys.readouterr()
    assert main([f"resume={folder}", "dynamics.max_epochs=null"]) == 2
    assert "dynamics.max_epochs=null: the ensemble of" in capsys.readouterr().err
