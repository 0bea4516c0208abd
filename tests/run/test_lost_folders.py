"""With the CSV logger, which is the default: a run whose folder or disk is lost ends in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest

from mopo_pl.callbacks import Checkpoints

Train = Callable[..., Path]
SETTINGS = ("preset=offline-sac", "logger=csv", "checkpoint.every_minutes=0", "trainer.max_epochs=3")


def deleted(run: Path) -> None:
    shutil.rmtree(run)


def moved(run: Path) -> None:
    run.rename(run.with_name("moved"))


def full(run: Path) -> None:
    record = run / "logs/csv/policy/metrics.csv"
    record.unlink()
    record.symlink_to("/dev/full")


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
) -> None:
    save, saved = Checkpoints.save, list[int]()

    def losing(self: Checkpoints, trainer: L.Trainer) -> None:
        saved.append(trainer.current_epoch)
        if len(saved) == 2:
            lose(tmp_path / "run")
        save(self, trainer)

    monkeypatch.setattr(Checkpoints, "save", losing)
    train("run", *SETTINGS, code=1)
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("error: ")] == errors[-1:]
    assert f"cannot be written ({reason}); the last checkpoint is kept" in errors[-1]
