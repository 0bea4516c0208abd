"""A checkpoint holds what its module is rebuilt from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from small_stages import differing, small_batches, small_dynamics, small_refresh, small_sac, small_samples, weights

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.module import SACModule

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


class WiderActor(TanhGaussianActor):
    """Another class of the same weights."""


class OwnSAC(SACModule):
    """A subclass with the constructor of its base."""


class NamedSAC(SACModule):
    """A subclass with an argument of its own, which it does not save."""

    def __init__(self, *args: Any, label: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label = label


def fitted_sac(dataset: OfflineDataset, trainers: Trainers, path: Path, module: SACModule | None = None) -> SACModule:
    module = module or small_sac(dataset, normaliser=Normaliser.fit(dataset.transitions.observations))
    trainer = trainers(small_refresh(dataset))
    trainer.fit(module, datamodule=small_batches(dataset))
    trainer.save_checkpoint(path)
    return module


def fitted_dynamics(dataset: OfflineDataset, trainers: Trainers, path: Path) -> DynamicsModule:
    module = small_dynamics(dataset)
    trainer = trainers()
    trainer.fit(module, datamodule=small_samples(dataset))
    trainer.save_checkpoint(path)
    return module


def test_the_policys_module_is_rebuilt_from_its_checkpoint_alone(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    module = fitted_sac(make_dataset(), own_trainer, tmp_path / "sac.ckpt")
    loaded = SACModule.load_from_checkpoint(tmp_path / "sac.ckpt")
    assert differing(weights(module), weights(loaded)) == []
    assert loaded.hparams == module.hparams
    assert loaded.updates == module.updates == 10


def test_a_checkpoint_of_an_earlier_version_is_read(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    """The updates and the noise had a section of their own."""
    fitted_sac(make_dataset(), own_trainer, tmp_path / "sac.ckpt")
    content = torch.load(tmp_path / "sac.ckpt", weights_only=True)
    content["sac"] = {"updates": content.pop("updates"), "noise": content.pop("noise")}
    torch.save(content, tmp_path / "earlier.ckpt")
    assert SACModule.load_from_checkpoint(tmp_path / "earlier.ckpt").updates == 10


def test_the_ensembles_module_is_rebuilt_from_its_checkpoint_alone(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    module = fitted_dynamics(make_dataset(), own_trainer, tmp_path / "dynamics.ckpt")
    loaded = DynamicsModule.load_from_checkpoint(tmp_path / "dynamics.ckpt")
    assert differing(weights(module), weights(loaded)) == []
    assert loaded.hparams == module.hparams
    assert loaded.weight_decay == module.weight_decay


def test_a_rebuilt_module_trains_as_the_one_it_was_made_of(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    fitted_sac(dataset, own_trainer, tmp_path / "sac.ckpt")
    ended = []
    for module in (small_sac(dataset, normaliser=Normaliser.fit(dataset.transitions.observations)), None):
        module = module or SACModule.load_from_checkpoint(tmp_path / "sac.ckpt")
        trainer = own_trainer(small_refresh(dataset), max_epochs=4)
        trainer.fit(module, datamodule=small_batches(dataset), ckpt_path=tmp_path / "sac.ckpt")
        ended.append(weights(module))
    assert differing(*ended) == []


def test_hparams_are_read_without_unpickling(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    dataset = make_dataset()
    fitted_sac(dataset, own_trainer, tmp_path / "sac.ckpt")
    hparams = torch.load(tmp_path / "sac.ckpt", weights_only=True)["hyper_parameters"]
    assert hparams["discount"] == 0.9
    assert hparams["actor"]["hidden_sizes"] == [16]
    fitted_dynamics(dataset, own_trainer, tmp_path / "dynamics.ckpt")
    hparams = torch.load(tmp_path / "dynamics.ckpt", weights_only=True)["hyper_parameters"]
    assert hparams["beta"] == 0.0
    assert hparams["ensemble"]["members"] == 3


def test_a_logger_of_the_users_own_is_told_them(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    dataset = make_dataset()
    loggers = [CSVLogger(tmp_path, "csv", "one"), TensorBoardLogger(tmp_path, "board", "one")]
    own_trainer(small_refresh(dataset), logger=loggers).fit(small_sac(dataset), datamodule=small_batches(dataset))
    told = yaml.safe_load((tmp_path / "csv/one/hparams.yaml").read_text())
    assert (told["discount"], told["actor"]["hidden_sizes"]) == (0.9, [16])
    assert (tmp_path / "board/one/hparams.yaml").exists()


def test_an_argument_replaces_the_saved_one(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    fitted_sac(make_dataset(), own_trainer, tmp_path / "sac.ckpt")
    loaded = SACModule.load_from_checkpoint(tmp_path / "sac.ckpt", actor_lr=0.5)
    assert loaded.actor_lr == loaded.hparams["actor_lr"] == 0.5


def test_the_checkpoint_of_the_other_stage_is_refused(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    fitted_sac(dataset, own_trainer, tmp_path / "sac.ckpt")
    with pytest.raises(InputError, match=r"holds a SACModule, not a DynamicsModule"):
        DynamicsModule.load_from_checkpoint(tmp_path / "sac.ckpt")


def test_a_subclass_is_loaded_by_itself_and_not_by_its_base(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    plain = small_sac(dataset)
    module = OwnSAC(plain.actor, plain.critic, **sac_arguments())
    fitted_sac(dataset, own_trainer, tmp_path / "own.ckpt", module)
    assert type(OwnSAC.load_from_checkpoint(tmp_path / "own.ckpt")) is OwnSAC
    with pytest.raises(InputError, match=r"OwnSAC.*load it by OwnSAC\.load_from_checkpoint"):
        SACModule.load_from_checkpoint(tmp_path / "own.ckpt")


def test_an_argument_that_a_subclass_did_not_save_is_asked_for(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    dataset = make_dataset()
    plain = small_sac(dataset)
    fitted_sac(
        dataset, own_trainer, tmp_path / "own.ckpt", NamedSAC(plain.actor, plain.critic, label="x", **sac_arguments())
    )
    with pytest.raises(InputError, match="label"):
        NamedSAC.load_from_checkpoint(tmp_path / "own.ckpt")
    assert NamedSAC.load_from_checkpoint(tmp_path / "own.ckpt", label="y").label == "y"


def test_an_actor_of_another_class_must_be_given(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    dataset = make_dataset()
    arguments: dict[str, Any] = {
        "obs_dim": 3,
        "action_dim": 2,
        "hidden_sizes": (16,),
        "log_std_min": -5.0,
        "log_std_max": 2.0,
        "normaliser": Normaliser.identity(3),
    }
    actor = WiderActor(**arguments, generator=generator_for(0, "actor"))
    module = SACModule(actor, small_sac(dataset).critic, **sac_arguments())
    fitted_sac(dataset, own_trainer, tmp_path / "own.ckpt", module)
    with pytest.raises(InputError, match=r"actor is a .*WiderActor.*actor="):
        SACModule.load_from_checkpoint(tmp_path / "own.ckpt")
    given = WiderActor(**arguments, generator=generator_for(1, "actor"))
    loaded = SACModule.load_from_checkpoint(tmp_path / "own.ckpt", actor=given)
    assert loaded.actor is given
    assert differing(weights(module), weights(loaded)) == []


def test_a_checkpoint_without_hyper_parameters_says_so(
    make_dataset: Make, own_trainer: Trainers, tmp_path: Path
) -> None:
    """As older versions wrote them."""
    fitted_sac(make_dataset(), own_trainer, tmp_path / "sac.ckpt")
    saved = torch.load(tmp_path / "sac.ckpt", weights_only=True)
    del saved["hyper_parameters"]
    torch.save(saved, tmp_path / "old.ckpt")
    with pytest.raises(InputError, match="no hyper-parameters"):
        SACModule.load_from_checkpoint(tmp_path / "old.ckpt")


def sac_arguments() -> dict[str, Any]:
    """Those of `small_sac` but for the networks."""
    return {
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
        "alpha_lr": 1e-3,
        "alpha_init": 1.0,
        "alpha_max": 1.0,
        "target_entropy": -2.0,
        "discount": 0.9,
        "tau": 0.05,
        "soft_backup": True,
        "gradient_clip_norm": None,
        "pessimism": None,
        "target_bounds": None,
        "actor_average": None,
        "schedule_epochs": 10,
        "seed": 0,
        "compile": False,
    }
