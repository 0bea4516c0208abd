"""`limit_train_batches` cuts the ensemble's epochs short; each is one of its own all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback
from small_stages import differing, quiet_trainer, saver, selection, small_dynamics, small_samples, weights

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.module import DynamicsModule

Make = Callable[..., OfflineDataset]


class Seen(Callback):
    """Steps of each epoch, and whether it was validated."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.validated = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps.append(0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps[-1] += len(batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated += 1


def fit(
    dataset: OfflineDataset, epochs: int, limit: float, block: int, folder: Path | None = None, resume: Any = None
) -> tuple[DynamicsModule, Seen]:
    """160 rows in batches of 32: five steps an epoch."""
    module, seen = small_dynamics(dataset), Seen()
    callbacks = [selection(), seen] + ([saver(folder)] if folder else [])
    samples = small_samples(dataset, batch_size=32, updates_per_step=block)
    trainer = quiet_trainer(callbacks, epochs, limit_train_batches=limit)
    trainer.fit(module, datamodule=samples, ckpt_path=resume)
    return module, seen


def test_a_fit_on_samples_of_one_that_was_broken_off_is_as_any_first_one(make_dataset: Make) -> None:
    class Breaks(Callback):
        def on_train_batch_end(self, *arguments: Any, **named: Any) -> None:
            raise RuntimeError("in the middle of an epoch")

    dataset, trained = make_dataset(200), []
    samples = small_samples(dataset, batch_size=32)
    with pytest.raises(RuntimeError, match="in the middle"):
        quiet_trainer([selection(), Breaks()], 2).fit(small_dynamics(dataset), datamodule=samples)
    for data in (samples, small_samples(dataset, batch_size=32)):
        module, seen = small_dynamics(dataset), Seen()
        quiet_trainer([selection(), seen], 2).fit(module, datamodule=data)
        assert seen.steps == [5, 5]
        trained.append(weights(module))
    assert differing(*trained) == []


@pytest.mark.parametrize(
    ("limit", "block", "steps"), [(1.0, 1, 5), (3, 1, 3), (0.5, 1, 2), (7, 1, 5), (2, 2, 4), (1, 2, 2), (2, 8, 5)]
)
def test_every_epoch_has_as_many_steps_and_is_validated(
    make_dataset: Make, limit: float, block: int, steps: int
) -> None:
    _, seen = fit(make_dataset(200), 4, limit, block)
    assert seen.steps == [steps] * 4
    assert seen.validated == 4


def test_a_short_epoch_is_followed_by_the_same_one_after_a_resume(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset(200)
    unbroken, _ = fit(dataset, 3, 3, 1)
    fit(dataset, 1, 3, 1, folder=tmp_path)
    resumed, seen = fit(dataset, 3, 3, 1, resume=max(tmp_path.glob("*.ckpt")))
    assert seen.steps == [3, 3]
    assert differing(weights(unbroken), weights(resumed)) == []
