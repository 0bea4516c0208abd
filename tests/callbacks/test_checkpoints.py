"""When a run is saved, and that what is saved continues it exactly."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_stages import (
    differing,
    quiet_trainer,
    saver,
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
    unchanged_globals,
    weights,
)
from torch import Tensor

from mopo_pl.callbacks import Checkpoints, Interrupted
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.storage.checkpoints import CheckpointFiles

Make = Callable[..., OfflineDataset]


class Signal(Callback):
    """Stands for a signal that arrives while batch number `at` (from 1, over all epochs) is being worked on."""

    def __init__(self, at: int | None) -> None:
        self.at, self.seen, self.received = at, 0, None

    def __call__(self) -> int | None:
        return self.received

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.received = signal.SIGTERM


class PolicyStage:
    """Five batches an epoch, a refresh every second epoch."""

    batches = 5

    def fit(
        self, dataset: OfflineDataset, folder: Path, epochs: int, at: int | None = None, every_minutes: float = 1000.0
    ) -> dict[str, Tensor]:
        """Trains from the newest checkpoint of the folder, if any; gives the weights and what else has a state."""
        module, data = small_sac(dataset), small_batches(dataset, refresh_folder=folder / "refreshes")
        refresh = small_refresh(dataset, every_n_epochs=2)
        self.train(module, data, [refresh], folder, epochs, at, every_minutes)
        assert refresh._generator is not None
        streams = {"noise": module._noise.get_state(), "rollouts": refresh._generator.get_state()}
        streams["batches"] = data._batches.get_state()
        buffer = {
            f"buffer {number}": rows for number, rows in data.model_buffer.state_dict(lambda _, rows: rows)["stored"]
        }
        return {**weights(module), **buffer, **streams, "updates": torch.tensor(module.updates)}

    def train(
        self,
        module: L.LightningModule,
        data: L.LightningDataModule,
        callbacks: list[Callback],
        folder: Path,
        epochs: int,
        at: int | None,
        every_minutes: float,
    ) -> None:
        arriving = Signal(at)
        saving = saver(folder, every_minutes=every_minutes, signals=arriving)
        trainer = quiet_trainer([arriving, *callbacks, saving], epochs)
        trainer.fit(module, datamodule=data, ckpt_path=CheckpointFiles(folder, "stage").newest_valid())


class DynamicsStage(PolicyStage):
    """320 training rows in batches of 64: five an epoch, with a holdout and a selection of members."""

    def fit(
        self, dataset: OfflineDataset, folder: Path, epochs: int, at: int | None = None, every_minutes: float = 1000.0
    ) -> dict[str, Tensor]:
        module, data, chosen = small_dynamics(dataset), small_samples(dataset), selection()
        self.train(module, data, [chosen], folder, epochs, at, every_minutes)
        assert chosen.best is not None
        return {**weights(module), "best": chosen.best, "stale": torch.tensor(chosen.stale)}


@pytest.fixture(params=[PolicyStage, DynamicsStage], ids=["policy", "dynamics"])
def stage(request: pytest.FixtureRequest) -> PolicyStage:
    return request.param()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.ckpt"))


# When -----------------------------------------------------------------------------------------------------------------


def test_a_file_is_saved_at_epoch_ends_and_the_newest_two_stay(
    stage: PolicyStage, make_dataset: Make, tmp_path: Path
) -> None:
    stage.fit(make_dataset(), tmp_path, 4, every_minutes=0.0)
    assert names(tmp_path) == ["stage-000002-000005.ckpt", "stage-000003-000005.ckpt"]


def test_files_of_other_stages_are_left_alone(make_dataset: Make, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"dynamics-{i}.ckpt").touch()
    PolicyStage().fit(make_dataset(), tmp_path, 3, every_minutes=0.0)
    assert [name for name in names(tmp_path) if name.startswith("dynamics")] == [f"dynamics-{i}.ckpt" for i in range(3)]


def test_between_two_files_passes_the_asked_time_but_the_last_epoch_is_always_saved(
    make_dataset: Make, tmp_path: Path
) -> None:
    PolicyStage().fit(make_dataset(), tmp_path, 4, every_minutes=1000.0)
    assert names(tmp_path) == ["stage-000003-000005.ckpt"]


def test_an_early_stop_is_a_last_epoch(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()

    class Stop(Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    trainer = quiet_trainer([Stop(), saver(tmp_path, every_minutes=1000.0), small_refresh(dataset)], 9)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert names(tmp_path)[-1].startswith("stage-000001")


def test_a_signal_saves_at_the_batchs_end_and_leaves(stage: PolicyStage, make_dataset: Make, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        stage.fit(make_dataset(), tmp_path, 4, at=7)
    assert caught.value.code == 143
    assert names(tmp_path) == ["stage-000001-000002.ckpt"]


def test_a_signal_in_an_epochs_last_batch_is_honoured_at_the_epochs_end(
    stage: PolicyStage, make_dataset: Make, tmp_path: Path
) -> None:
    """A file written at the last batch's end would skip the epoch's end when resumed: it has no epoch row, no schedule
    step. The file of the epoch's end has both, and the epoch counts as done.
    """
    with pytest.raises(Interrupted):
        stage.fit(make_dataset(), tmp_path, 4, at=5)
    (path,) = tmp_path.glob("*.ckpt")
    saved = torch.load(path, weights_only=False)
    assert saved["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1


def test_a_smoke_test_leaves_no_file(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()
    trainer = quiet_trainer([small_refresh(dataset), saver(tmp_path)], 1, fast_dev_run=2)
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert names(tmp_path) == []


def test_every_file_can_be_read_without_running_code(stage: PolicyStage, make_dataset: Make, tmp_path: Path) -> None:
    stage.fit(make_dataset(), tmp_path, 1)
    for path in tmp_path.glob("*.ckpt"):
        assert torch.load(path, weights_only=True)["epoch"] == 0


def test_the_time_of_a_stage_is_summed_over_its_resumptions(tmp_path: Path) -> None:
    resumed = saver(tmp_path)
    resumed.load_state_dict({"seconds": 100.0})
    assert 100.0 <= resumed.seconds < 101.0
    first = resumed.seconds
    assert first <= resumed.seconds < first + 1


# Exactly --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 4, 5, 6, 10, 12, 15], ids=lambda at: f"at batch {at}")
def test_a_run_that_was_interrupted_ends_bit_for_bit_as_one_that_was_not(
    stage: PolicyStage, make_dataset: Make, tmp_path: Path, at: int
) -> None:
    dataset = make_dataset()
    with unchanged_globals(1):
        unbroken = stage.fit(dataset, tmp_path / "unbroken", 3)
    with unchanged_globals(2), pytest.raises(Interrupted):
        stage.fit(dataset, tmp_path / "broken", 3, at=at)
    with unchanged_globals(3):
        resumed = stage.fit(dataset, tmp_path / "broken", 3)
    assert differing(unbroken, resumed) == []


def test_a_run_may_be_interrupted_again_and_again(stage: PolicyStage, make_dataset: Make, tmp_path: Path) -> None:
    """Every third batch, over three epochs of five."""
    dataset = make_dataset()
    unbroken = stage.fit(dataset, tmp_path / "unbroken", 3)
    interruptions = 0
    for _ in range(10):
        try:
            resumed = stage.fit(dataset, tmp_path / "broken", 3, at=3)
            break
        except Interrupted:
            interruptions += 1
    else:
        pytest.fail("the run never came to its end")
    assert interruptions >= 4
    assert differing(unbroken, resumed) == []


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_longer_run_continues_a_shorter_one_bit_for_bit(
    stage: PolicyStage, make_dataset: Make, tmp_path: Path, epochs: int
) -> None:
    dataset = make_dataset()
    unbroken = stage.fit(dataset, tmp_path / "unbroken", 3)
    stage.fit(dataset, tmp_path / "longer", epochs)
    assert differing(unbroken, stage.fit(dataset, tmp_path / "longer", 3)) == []


def test_the_epochs_report_covers_the_batches_before_the_interruption_too(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()
    reports = []
    for folder, at in [("unbroken", None), ("broken", 3), ("broken", None)]:
        arriving = Signal(at)
        callbacks: list[Callback] = [arriving, small_refresh(dataset), saver(tmp_path / folder, signals=arriving)]
        trainer = quiet_trainer(callbacks, 1)
        newest = CheckpointFiles(tmp_path / folder, "stage").newest_valid()
        try:
            trainer.fit(small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=newest)
        except Interrupted:
            continue
        reports.append({name: v.item() for name, v in trainer.callback_metrics.items() if name.startswith("policy/")})
    assert "policy/critic_loss" in reports[0]
    assert reports[0] == reports[1]


def test_it_runs_after_all_other_callbacks_wherever_it_stands_in_the_list(make_dataset: Make, tmp_path: Path) -> None:
    trainer = quiet_trainer([saver(tmp_path), small_refresh(make_dataset())], 1)
    assert isinstance(trainer.callbacks[-1], Checkpoints)  # type: ignore[attr-defined]
