"""`Tuner`, and saving before a fit."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner.tuning import Tuner
from small_stages import differing, small_batches, small_dynamics, small_refresh, small_sac, small_samples, weights

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


@pytest.mark.parametrize("search", ["lr_find", "scale_batch_size"])
@pytest.mark.parametrize("stage", ["policy", "dynamics"])
def test_a_search_is_refused_with_what_to_set(
    make_dataset: Make, own_trainer: Trainers, search: str, stage: str
) -> None:
    dataset = make_dataset()
    policy = stage == "policy"
    module, data = (
        (small_sac(dataset), small_batches(dataset)) if policy else (small_dynamics(dataset), small_samples(dataset))
    )
    tuner = Tuner(own_trainer(*([small_refresh(dataset)] if policy else [])))
    setting = {
        ("policy", "lr_find"): "actor_lr, critic_lr and alpha_lr",
        ("dynamics", "lr_find"): "learning_rate",
        ("policy", "scale_batch_size"): "OfflineDataModule.*batch_size",
        ("dynamics", "scale_batch_size"): "EnsembleDataModule.*batch_size",
    }[stage, search]
    with pytest.raises(InputError, match=f"steps its optimisers? by hand.*{setting}"):
        getattr(tuner, search)(module, datamodule=data)


@pytest.mark.parametrize("finder", [LearningRateFinder, BatchSizeFinder])
def test_a_finder_among_the_callbacks_is_refused_too(
    make_dataset: Make, own_trainer: Trainers, finder: type[L.Callback]
) -> None:
    dataset = make_dataset()
    with pytest.raises(InputError, match="by hand"):
        own_trainer(finder(), small_refresh(dataset)).fit(small_sac(dataset), datamodule=small_batches(dataset))


def test_what_is_saved_before_a_fit_starts_it(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    dataset, ended = make_dataset(), []
    for saves in (False, True):
        module, data = small_sac(dataset), small_batches(dataset)
        trainer = own_trainer(small_refresh(dataset))
        if saves:
            trainer.strategy.connect(module)
            trainer.save_checkpoint(tmp_path / "before.ckpt")
            assert torch.load(tmp_path / "before.ckpt", weights_only=True)["updates"] == 0
        trainer.fit(module, datamodule=data, ckpt_path=tmp_path / "before.ckpt" if saves else None)
        ended.append(weights(module))
    assert differing(*ended) == []


def test_what_is_saved_after_validating_can_be_gone_on_from(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    trainer = own_trainer(small_refresh(dataset))
    module, data = small_sac(dataset), small_batches(dataset)
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    trainer = own_trainer(small_refresh(dataset))
    trainer.fit(module, datamodule=data, ckpt_path=tmp_path / "before.ckpt")
    assert module.updates == 10
