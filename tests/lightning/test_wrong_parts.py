"""A callback that meets another module or DataModule than it needs says which."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from small_stages import saver, selection, small_batches, small_dynamics, small_refresh, small_sac, small_samples

from mopo_pl.callbacks import PolicyEvaluation, RanksAgree
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


def evaluation() -> PolicyEvaluation:
    return PolicyEvaluation(
        policy_of=lambda module: lambda observations: observations,
        env_id="Pendulum-v1",
        env_kwargs={},
        episodes=1,
        every_n_epochs=1,
        seed=0,
        score=lambda value: None,
    )


class Boring(BoringModel):
    """Of nobody's project."""


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda data: selection(), "MemberSelection needs a DynamicsModule, and was given a Boring"),
        (small_refresh, "RolloutRefresh needs a SACModule, and was given a Boring"),
        (lambda data: evaluation(), "PolicyEvaluation needs a PolicyModule, and was given a Boring"),
    ],
)
def test_a_callback_beside_a_module_of_another_kind(
    make_dataset: Make, own_trainer: Trainers, make: Callable[[OfflineDataset], L.Callback], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        own_trainer(make(make_dataset())).fit(Boring())
    assert caught.value.problems == [sentence]


def test_ranks_agree_on_any_module(own_trainer: Trainers) -> None:
    own_trainer(RanksAgree()).fit(Boring())


def test_a_refresh_without_a_datamodule(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match=r"RolloutRefresh needs an OfflineDataModule.*datamodule=.*given none"):
        own_trainer(small_refresh(dataset)).fit(small_sac(dataset), train_dataloaders=[dataset.transitions])


def test_a_refresh_beside_the_datamodule_of_the_other_stage(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match=r"RolloutRefresh needs an OfflineDataModule.*given an EnsembleDataModule"):
        own_trainer(small_refresh(dataset)).fit(small_sac(dataset), datamodule=small_samples(dataset))


def test_the_policys_module_beside_the_datamodule_of_the_other_stage(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match=r"SACModule takes .*\[K, B, W\].*OfflineDataModule.*\[1, 3, 64, 10\]"):
        own_trainer().fit(small_sac(dataset), datamodule=small_samples(dataset))


def test_the_ensembles_module_beside_the_datamodule_of_the_other_stage(
    make_dataset: Make, own_trainer: Trainers
) -> None:
    dataset = make_dataset()
    data = small_batches(dataset, real_ratio=1.0)
    with pytest.raises(InputError, match=r"DynamicsModule takes .*\[K, E, B, W\].*EnsembleDataModule.*\[1, 32, 10\]"):
        own_trainer().fit(small_dynamics(dataset), datamodule=data)


@pytest.mark.parametrize("checks", [0, 2])
@pytest.mark.parametrize("kind", ["sac", "dynamics"])
def test_a_dataloader_of_something_else(make_dataset: Make, own_trainer: Trainers, kind: str, checks: int) -> None:
    """Met in training, or in Lightning's check of validation before it."""
    dataset = make_dataset()
    module = small_sac(dataset) if kind == "sac" else small_dynamics(dataset)
    rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(8, 3)))
    with pytest.raises(InputError, match="takes Transitions"):
        own_trainer(num_sanity_val_steps=checks).fit(module, train_dataloaders=rows, val_dataloaders=rows)


def test_checkpoints_without_the_plugin(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    dataset = make_dataset()
    trainer = own_trainer(small_refresh(dataset), saver(tmp_path), enable_checkpointing=True)
    with pytest.raises(InputError, match=r"Checkpoints needs .*plugins=\[ChecksummedCheckpointIO\(\)\]"):
        trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))


def test_the_policys_module_without_a_refresh(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match=r"model buffer is empty.*RolloutRefresh"):
        own_trainer().fit(small_sac(dataset), datamodule=small_batches(dataset))


def test_a_refresh_that_does_not_fit_its_buffer(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset: Any = make_dataset()
    with pytest.raises(InputError, match=r"capacity=10.*40 starts of 3 steps"):
        own_trainer(small_refresh(dataset)).fit(small_sac(dataset), datamodule=small_batches(dataset, capacity=10))
