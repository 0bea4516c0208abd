"""What a user's own callbacks, loggers and progress bar are shown, and over which count."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from small_stages import selection, small_batches, small_dynamics, small_refresh, small_sac, small_samples

from mopo_pl.data.dataset import OfflineDataset

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]
Parts = tuple[L.LightningModule, L.LightningDataModule, list[L.Callback]]

MONITORED = {"policy": "policy/critic_loss", "dynamics": "dynamics/holdout_mse_0"}
LOSS = {"policy": "policy/critic_loss", "dynamics": "dynamics/train_loss"}


def parts(stage: str, dataset: OfflineDataset, **replaced: Any) -> Parts:
    """320 training rows in batches of 64, or an epoch of ten updates, five in a block."""
    if stage == "dynamics":
        return small_dynamics(dataset), small_samples(dataset, updates_per_step=5), [selection()]
    data = small_batches(dataset, updates_per_epoch=10, updates_per_step=5)
    return small_sac(dataset, **replaced), data, [small_refresh(dataset)]


@pytest.fixture(params=["policy", "dynamics"])
def stage(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_checkpoint_of_the_users_own_keeps_the_best_epoch(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path, stage: str
) -> None:
    module, data, callbacks = parts(stage, make_dataset())
    best = ModelCheckpoint(tmp_path / "best", monitor=MONITORED[stage], mode="min")
    trainer = own_trainer(*callbacks, best, max_epochs=3, enable_checkpointing=True)
    trainer.fit(module, datamodule=data)
    assert best.best_model_score is not None
    assert Path(best.best_model_path).parent == tmp_path / "best"


def test_a_metric_in_a_files_name_makes_no_folder(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path, stage: str
) -> None:
    """The names have a slash, which loggers group by: the page says to leave them out of the name."""
    module, data, callbacks = parts(stage, make_dataset())
    form = f"{{epoch}}-{{{MONITORED[stage]}:.3f}}"
    best = ModelCheckpoint(tmp_path, form, monitor=MONITORED[stage], auto_insert_metric_name=False)
    own_trainer(*callbacks, best, enable_checkpointing=True).fit(module, datamodule=data)
    (file,) = tmp_path.rglob("*.ckpt")
    assert file.parent == tmp_path
    assert file.stem == f"{file.stem.partition('-')[0]}-{float(best.best_model_score or 0):.3f}"


def test_an_early_stopping_of_the_users_own_stops(make_dataset: Make, own_trainer: Trainers, stage: str) -> None:
    """No fall of the loss is enough for it."""
    module, data, callbacks = parts(stage, make_dataset())
    stop = EarlyStopping(MONITORED[stage], patience=2, min_delta=1e9)
    trainer = own_trainer(*callbacks, stop, max_epochs=20)
    trainer.fit(module, datamodule=data)
    assert trainer.current_epoch == 3


def test_the_loss_is_in_lightnings_own_progress_bar(make_dataset: Make, own_trainer: Trainers, stage: str) -> None:
    """From the first batch on."""
    module, data, callbacks = parts(stage, make_dataset())
    shown: list[set[str]] = []

    class Bar(TQDMProgressBar):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            shown.append(set(self.get_metrics(trainer, pl_module)))
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    own_trainer(*callbacks, Bar(), enable_progress_bar=True).fit(module, datamodule=data)
    assert all(LOSS[stage] in names for names in shown)


def test_lightnings_own_counts_are_of_updates(make_dataset: Make, own_trainer: Trainers, stage: str) -> None:
    """An update of SAC makes three steps of optimisers, and a batch of the Trainer is a block of updates."""
    module, data, callbacks = parts(stage, make_dataset())
    trainer = own_trainer(*callbacks, max_epochs=3)
    trainer.fit(module, datamodule=data)
    assert module.updates == trainer.global_step == (30 if stage == "policy" else 15)


def test_a_checkpoints_file_is_named_by_its_updates(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path, stage: str
) -> None:
    module, data, callbacks = parts(stage, make_dataset())
    own_trainer(*callbacks, ModelCheckpoint(tmp_path), enable_checkpointing=True).fit(module, datamodule=data)
    (file,) = tmp_path.rglob("*.ckpt")
    assert file.name == f"epoch=1-step={module.updates}.ckpt"


def test_rows_stand_at_updates_and_a_learning_rate_monitor_at_batches(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path, stage: str
) -> None:
    """As the page says: Lightning has its own count for monitors, which is of batches, each a block of updates."""
    module, data, callbacks = parts(stage, make_dataset())
    logger = CSVLogger(tmp_path)
    monitor = LearningRateMonitor("epoch")
    own_trainer(*callbacks, monitor, max_epochs=3, logger=logger, log_every_n_steps=1).fit(module, datamodule=data)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    rates = [int(row["step"]) for row in rows if any("lr" in name and row[name] for name in row)]
    losses = [int(row["step"]) for row in rows if row[LOSS[stage]]]
    assert losses == ([10, 20, 30] if stage == "policy" else [5, 10, 15])
    if stage == "policy":  # as each epoch begins; the ensemble has no schedule to be shown
        assert rates == [0, 2, 4]


def test_a_limit_of_steps_is_one_of_updates(make_dataset: Make, own_trainer: Trainers, stage: str) -> None:
    module, data, callbacks = parts(stage, make_dataset())
    own_trainer(*callbacks, max_epochs=-1, max_steps=10).fit(module, datamodule=data)
    assert module.updates == 10
