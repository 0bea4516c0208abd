"""A second `fit` of the same Trainer goes on."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_stages import (
    differing,
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
    weights,
)

from mopo_pl.data.dataset import OfflineDataset

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


class Stored(Callback):
    """Rows of the model buffer and the batch, at the first batch of each epoch."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.batches: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.rows.append(len(trainer.datamodule.model_buffer))  # type: ignore[attr-defined]
            self.batches.append(batch.rows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_the_model_buffer_stays_filled(make_dataset: Make, own_trainer: Trainers, every: int) -> None:
    dataset, stored, whole = make_dataset(), Stored(), Stored()
    module, data = small_sac(dataset), small_batches(dataset)
    refresh = small_refresh(dataset, every_n_epochs=every)
    trainer = own_trainer(refresh, stored, max_epochs=3)
    trainer.fit(module, datamodule=data)
    trainer.fit_loop.max_epochs = 5
    trainer.fit(module, datamodule=data)
    own_trainer(small_refresh(dataset, every_n_epochs=every), whole, max_epochs=5).fit(
        small_sac(dataset), datamodule=small_batches(dataset)
    )
    assert stored.rows == whole.rows
    assert module.updates == 25


def test_the_random_streams_go_on(make_dataset: Make, own_trainer: Trainers) -> None:
    """The optimisers begin anew, as Lightning has it; real rows, noise and starts are those of one fit of four epochs."""
    dataset, states = make_dataset(), []
    for fits in ([4], [2, 4]):
        module, data, refresh, stored = small_sac(dataset), small_batches(dataset), small_refresh(dataset), Stored()
        trainer = own_trainer(refresh, stored)
        for epochs in fits:
            trainer.fit_loop.max_epochs = epochs
            trainer.fit(module, datamodule=data)
        assert refresh._generator is not None
        streams = [data._batches.get_state(), module._noise.get_state(), refresh._generator.get_state()]
        states.append((streams, [rows[:, :, :16] for rows in stored.batches]))
    for first, second in zip(states[0][0], states[1][0], strict=True):
        assert torch.equal(first, second)
    assert all(torch.equal(a[:, :16], b[:, :16]) for a, b in zip(states[0][1], states[1][1], strict=True))


def test_other_data_at_a_second_fit_are_imagined_from_anew(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset, stored = make_dataset(), Stored()
    module = small_sac(dataset)
    trainer = own_trainer(small_refresh(dataset, every_n_epochs=5), stored)
    trainer.fit(module, datamodule=small_batches(dataset))
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, datamodule=small_batches(make_dataset(300)))
    assert stored.rows == [120] * 4


def test_a_fit_of_another_trainer_begins_anew(make_dataset: Make, own_trainer: Trainers) -> None:
    """The same parts, fitted twice from the same weights, come to the same; `updates`, on which the average depends, goes on."""
    dataset, ended = make_dataset(), []
    module, data, refresh = small_sac(dataset, actor_average=None), small_batches(dataset), small_refresh(dataset)
    first = weights(module)
    for _ in range(2):
        module.load_state_dict(first)
        own_trainer(refresh).fit(module, datamodule=data)
        ended.append(weights(module))
    assert differing(*ended) == []


def test_the_ensembles_shuffles_go_on(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset, states = make_dataset(), []
    for fits in ([4], [2, 4]):
        module, samples = small_dynamics(dataset), small_samples(dataset)
        trainer = own_trainer(selection())
        for epochs in fits:
            trainer.fit_loop.max_epochs = epochs
            trainer.fit(module, datamodule=samples)
        states.append(samples._shuffles.get_state())
    assert torch.equal(*states)
