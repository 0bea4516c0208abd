"""A run's checkpoint in a Trainer of the user's own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from small_stages import (
    differing,
    quiet_trainer,
    saver,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    weights,
)

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError
from mopo_pl.sac.module import SACModule

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


@pytest.fixture
def saved(make_dataset: Make, tmp_path: Path) -> Path:
    """Of two epochs, its refreshes in files, as a run leaves it."""
    dataset, folder = make_dataset(), tmp_path / "checkpoints"
    data = small_batches(dataset, refresh_folder=folder / "refreshes")
    quiet_trainer([small_refresh(dataset), saver(folder)], 2).fit(small_sac(dataset), datamodule=data)
    return max(folder.glob("*.ckpt"))


def go_on(dataset: OfflineDataset, trainers: Trainers, path: Path, **replaced: object) -> SACModule:
    module, data = small_sac(dataset), small_batches(dataset, **replaced)
    trainers(small_refresh(dataset), max_epochs=4).fit(module, datamodule=data, ckpt_path=path)
    return module


def test_it_goes_on_without_a_folder_of_refreshes(
    make_dataset: Make, own_trainer: Trainers, saved: Path, tmp_path: Path
) -> None:
    dataset = make_dataset()
    as_the_run = go_on(dataset, own_trainer, saved, refresh_folder=saved.parent / "refreshes")
    assert differing(weights(go_on(dataset, own_trainer, saved)), weights(as_the_run)) == []
    elsewhere = go_on(dataset, own_trainer, saved, refresh_folder=tmp_path / "of_my_own")
    assert differing(weights(elsewhere), weights(as_the_run)) == []


def test_another_fit_of_the_same_data_keeps_its_own_refreshes(make_dataset: Make, tmp_path: Path) -> None:
    """Both number their refreshes from 1."""
    dataset = make_dataset()
    data, drawn = small_batches(dataset, refresh_folder=tmp_path / "refreshes"), []
    for seed in (0, 1):
        callbacks = [small_refresh(dataset, seed=seed), saver(tmp_path / str(seed))]
        quiet_trainer(callbacks, 2).fit(small_sac(dataset), datamodule=data)
        drawn.append(data.sample(3).rows)
    assert not torch.equal(*drawn)
    again = small_batches(dataset, refresh_folder=tmp_path / "refreshes")
    saved = torch.load(max((tmp_path / "1").glob("*.ckpt")), weights_only=True)
    again.load_state_dict(saved["OfflineDataModule"])
    assert torch.equal(again.sample(3).rows, drawn[1])


def test_where_the_refreshes_are_not_beside_it_the_sentence_says_where_they_were_sought(
    make_dataset: Make, own_trainer: Trainers, saved: Path, tmp_path: Path
) -> None:
    dataset = make_dataset()
    alone = shutil.copy(saved, tmp_path / "alone.ckpt")
    with pytest.raises(InputError, match=rf"is neither in .*{tmp_path}.*refreshes.*refresh_folder"):
        go_on(dataset, own_trainer, Path(alone))
    moved = go_on(dataset, own_trainer, Path(alone), refresh_folder=saved.parent / "refreshes")
    assert moved.updates == 20


def test_a_checkpoint_with_its_rows_goes_on_where_refreshes_are_kept_in_files(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    trainer = own_trainer(small_refresh(dataset))
    trainer.fit(small_sac(dataset), datamodule=small_batches(dataset))
    trainer.save_checkpoint(tmp_path / "rows.ckpt")
    module = go_on(dataset, own_trainer, tmp_path / "rows.ckpt", refresh_folder=tmp_path / "refreshes")
    assert module.updates == 20


def test_validating_from_it_needs_no_refreshes(
    make_dataset: Make, own_trainer: Trainers, saved: Path, tmp_path: Path
) -> None:
    dataset = make_dataset()
    alone = shutil.copy(saved, tmp_path / "alone.ckpt")
    module = SACModule.load_from_checkpoint(alone)
    (values,) = own_trainer().validate(module, datamodule=small_batches(dataset), verbose=False)
    (same,) = own_trainer().validate(
        small_sac(dataset), datamodule=small_batches(dataset), ckpt_path=saved, verbose=False
    )
    assert values == same


def test_a_checkpoint_of_the_other_stage_is_refused(make_dataset: Make, own_trainer: Trainers, saved: Path) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match="holds a SACModule, not a DynamicsModule"):
        own_trainer(max_epochs=3).fit(small_dynamics(dataset), datamodule=small_batches(dataset), ckpt_path=saved)
