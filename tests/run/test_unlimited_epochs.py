"""An ensemble without a limit of epochs ends by its patience, and says how far it is without one."""

import json
from pathlib import Path

import pytest
from tiny import TINY

from mopo_pl.cli import main

UNLIMITED = [*TINY, "stage=dynamics", "dynamics.max_epochs=null", "dynamics.patience=1", "dynamics.improvement=0.3"]


def test_it_ends_by_patience(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mopo_pl.run.trainer.LINE_SECONDS", 0.0)
    assert main([*UNLIMITED, f"run_dir={tmp_path / 'run'}"]) == 0
    facts = json.loads((tmp_path / "run" / "dynamics.json").read_text())
    printed = capsys.readouterr()
    assert f"early stop after {facts['epochs']} epochs" in printed.out
    lines = printed.err.splitlines()
    assert lines[-1].startswith(f"dynamics  epoch {facts['epochs']}  train_loss ")
    assert "%" not in printed.err
    assert "left" not in printed.err


def test_it_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main([*UNLIMITED, f"run_dir={folder}"]) == 0
    first = json.loads((folder / "dynamics.json").read_text())
    for name in ("dynamics.json", "dynamics.safetensors", "result.json"):
        (folder / name).unlink()
    assert main([f"resume={folder}"]) == 0
    assert json.loads((folder / "dynamics.json").read_text())["hash"] == first["hash"]


def test_its_plan_has_no_last_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*UNLIMITED, "--dry-run"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["dynamics"] == "7 members, 3472 parameters, any number of epochs of 5 steps"
    assert "an epoch (a few steps" in lines["estimate"]


def test_a_stage_says_that_it_reached_its_most_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Five stale epochs are tolerated, and two are trained: it cannot have ended by its patience.
    assert main([*TINY, "stage=dynamics", "dynamics.max_epochs=2", f"run_dir={tmp_path / 'run'}"]) == 0
    assert "dynamics: ended at the most epochs allowed, after 2 epochs; elites" in capsys.readouterr().out
