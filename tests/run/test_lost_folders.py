"""With each logger: a run whose folder or disk is lost ends in one sentence, and does not lose what was saved before."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.loggers import MLFlowLogger

from mopo_pl.callbacks import Checkpoints

Train = Callable[..., Path]
SETTINGS = ("preset=offline-sac", "checkpoint.every_minutes=0", "trainer.max_epochs=3")


def deleted(run: Path) -> None:
    shutil.rmtree(run)


def moved(run: Path) -> None:
    run.rename(run.with_name("moved"))


def full(run: Path) -> None:
    """No room for the rows of the run, nor for those of the CSV logger."""
    for name in ("metrics.jsonl", "logs/csv/policy/metrics.csv"):
        if (run / name).exists():
            (run / name).unlink()
            (run / name).symlink_to("/dev/full")


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "mlflow", "wandb", "none"])
@pytest.mark.parametrize(
    ("lose", "reason"),
    [(deleted, "No such file or directory"), (moved, "No such file or directory"), (full, "No space left on device")],
)
def test_a_run_that_loses_its_folder_or_disk_ends_in_one_sentence(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lose: Callable[[Path], None],
    reason: str,
    logger: str,
) -> None:
    save, saved = Checkpoints.save, list[int]()

    def losing(self: Checkpoints, trainer: L.Trainer) -> None:
        saved.append(trainer.current_epoch)
        if len(saved) == 2:
            lose(tmp_path / "run")
        save(self, trainer)

    monkeypatch.setattr(Checkpoints, "save", losing)
    train("run", *SETTINGS, f"logger={logger}", code=1)
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("error: ")] == errors[-1:]
    assert f"cannot be written ({reason}); the last checkpoint is kept" in errors[-1]


def test_a_store_of_mlflow_that_cannot_be_written_ends_in_one_sentence(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its errors are those of a database, no OSError."""

    def refuse(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(MLFlowLogger, "log_metrics", refuse)
    train("run", *SETTINGS, "logger=mlflow", code=1)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: a logger's record cannot be written (database or disk is full); the last checkpoint is kept"
    ]


def test_an_error_in_a_logger_is_not_taken_for_a_full_disk(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr(MLFlowLogger, "log_metrics", fail)
    with pytest.raises(KeyError, match="a mistake"):
        train("run", *SETTINGS, "logger=mlflow")
