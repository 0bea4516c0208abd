"""Both stages small enough to be run many times, built from the classes themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from mopo_pl.callbacks import Checkpoints, MemberSelection, RolloutRefresh
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.penalties import max_aleatoric
from mopo_pl.dynamics.termination import Rule, never
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import CheckpointFiles, ChecksummedCheckpointIO


def quiet_trainer(callbacks: list[Callback], max_epochs: int, **flags: Any) -> L.Trainer:
    """A Trainer on the CPU that writes nothing by itself."""
    saving = any(isinstance(callback, Checkpoint) for callback in callbacks)
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=max_epochs,
        callbacks=callbacks,
        enable_checkpointing=saving,
        plugins=[ChecksummedCheckpointIO()],
        **{"num_sanity_val_steps": 0, **silent, **flags},
    )


def small_samples(dataset: OfflineDataset, **replaced: Any) -> EnsembleDataModule:
    arguments = {"members": 3, "batch_size": 64, "updates_per_step": 1, "holdout_fraction": 0.2, "holdout_max": 1000}
    return EnsembleDataModule(dataset, **{**arguments, "seed": 0, **replaced})


def small_dynamics(dataset: OfflineDataset, kind: type[DynamicsModule] = DynamicsModule, **replaced: Any) -> Any:
    """LightningModule 1 of three members, two of them elites."""
    ensemble = GaussianEnsemble(
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        members=3,
        hidden_sizes=(16,),
        normaliser=Normaliser.fit(dataset.transitions.inputs),
        target_normaliser=Normaliser.identity(1 + dataset.obs_dim),
        generator=generator_for(0, "ensemble weights"),
    )
    arguments = {
        "elites": 2,
        "learning_rate": 3e-3,
        "weight_decay": (1e-5, 1e-5),
        "bound_coef": 0.01,
        "beta": 0.0,
        "compile": False,
        **replaced,
    }
    return kind(ensemble, **arguments)


def small_sac(dataset: OfflineDataset, **replaced: Any) -> SACModule:
    """LightningModule 2 with one hidden layer of 16."""
    normaliser = replaced.pop("normaliser", Normaliser.identity(dataset.obs_dim))
    shape: dict[str, Any] = {"obs_dim": dataset.obs_dim, "action_dim": dataset.action_dim, "hidden_sizes": (16,)}
    actor = TanhGaussianActor(
        **shape, log_std_min=-5.0, log_std_max=2.0, normaliser=normaliser, generator=generator_for(0, "actor")
    )
    critic = Critics(**shape, members=2, layer_norm=False, normaliser=normaliser, generator=generator_for(0, "critic"))
    arguments: dict[str, Any] = {
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
        "alpha_lr": 1e-3,
        "alpha_init": 1.0,
        "alpha_max": 1.0,
        "target_entropy": -float(dataset.action_dim),
        "discount": 0.9,
        "tau": 0.05,
        "soft_backup": True,
        "gradient_clip_norm": None,
        "pessimism": None,
        "target_bounds": None,
        "actor_average": 0.9,
        "schedule_epochs": 10,
        "seed": 0,
        "compile": False,
        **replaced,
    }
    return SACModule(actor, critic, **arguments)


def small_batches(dataset: OfflineDataset, **replaced: Any) -> OfflineDataModule:
    """Half of each batch imagined: 32 rows, five batches an epoch, one in a block."""
    arguments: dict[str, Any] = {
        "batch_size": 32,
        "real_ratio": 0.5,
        "updates_per_epoch": 5,
        "updates_per_step": 1,
        "retain": 2,
        "capacity": 40 * 3,
        "refresh_folder": None,
        "seed": 0,
        **replaced,
    }
    return OfflineDataModule(dataset, **arguments)


def small_refresh(dataset: OfflineDataset, termination: Rule = never, **replaced: Any) -> RolloutRefresh:
    """40 rollouts of 3 steps through an untrained ensemble, in chunks of 16."""
    ensemble = small_dynamics(dataset).ensemble
    transition = TransitionModel(ensemble=ensemble, elites=torch.tensor([2, 0]))
    model = PenalisedModel(transition=transition, penalty=max_aleatoric, coef=0.1, termination=termination)
    arguments: dict[str, Any] = {
        "horizon": 3,
        "starts": 40,
        "every_n_epochs": 1,
        "chunk": 16,
        "continue_share": 0.25,
        "max_dropped": 1.0,
        "seed": 0,
        "compile": False,
    }
    arguments |= {"limits": StateLimits.around(dataset.transitions.observations, torch.inf), **replaced}
    return RolloutRefresh(model, **arguments)


def saver(
    folder: Path,
    *,
    stage: str = "stage",
    every_minutes: float = 0.0,
    signals: Any = lambda: None,
    score: Any = lambda: None,
) -> Checkpoints:
    """Saves at every epoch's end unless told otherwise."""
    return Checkpoints(CheckpointFiles(folder, stage), every_minutes=every_minutes, signalled=signals, best_by=score)


def selection() -> MemberSelection:
    return MemberSelection(patience=5, improvement=0.01, geometric=True)


def weights(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Names whose tensors are not equal bit for bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


@contextmanager
def unchanged_globals(seed: int) -> Iterator[None]:
    """Another global random state inside: nothing that is claimed to be determined may depend on it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
