"""Trains both modules on fixed rows, on as many processes as asked, and leaves every rank's weights.

`python pair.py FOLDER WORLD [mutant [watched] [temperature]]`. In float64, so that only the order of sums may differ. The mutant leaves
each rank its own gradients, or that of the temperature alone.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

import mopo_pl.sac.cloning
import mopo_pl.sac.module
from mopo_pl.callbacks import MemberSelection, RanksAgree
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.module import SACModule

UPDATES, BLOCK, ROWS, OBS, ACTION = 50, 5, 32, 3, 2
"""BLOCK updates in a step; ROWS of a batch in all, shared among the ranks."""


class FixedDraws(SACModule):
    """Takes its part of noise that is drawn for all ranks at once."""

    def draw_noise(self, batch: Transitions) -> Tensor:
        generator = torch.Generator().manual_seed(self.updates)
        return share(self, torch.randn(len(batch), 2, ROWS, ACTION, generator=generator, dtype=torch.float64))


class FixedRows:
    """Each rank's part of the same batches."""

    def __init__(self, module: L.LightningModule) -> None:
        self.module = module

    def __len__(self) -> int:
        return UPDATES // BLOCK

    def __iter__(self) -> Iterator[Transitions]:
        generator = torch.Generator().manual_seed(7)
        for _ in range(len(self)):
            rows = torch.randn(BLOCK, ROWS, Transitions.width(OBS, ACTION), generator=generator, dtype=torch.float64)
            yield Transitions(share(self.module, rows), OBS, ACTION)


def share(module: L.LightningModule, rows: Tensor) -> Tensor:
    """This rank's part of rows [..., ROWS, n]."""
    return rows[..., module.global_rank :: module.trainer.world_size, :]


def trainer(world: int, epochs: int, callbacks: list[L.Callback]) -> L.Trainer:
    silent: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu",
        devices=world,
        max_epochs=epochs,
        callbacks=callbacks,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **silent,
    )


def train_sac(world: int, callbacks: list[L.Callback]) -> tuple[L.Trainer, nn.Module]:
    identity = Normaliser.identity(OBS)
    shape: dict[str, Any] = {"obs_dim": OBS, "action_dim": ACTION, "hidden_sizes": (16, 16), "normaliser": identity}
    actor = TanhGaussianActor(**shape, log_std_min=-5.0, log_std_max=2.0, generator=generator_for(0, "actor"))
    module = FixedDraws(
        actor,
        Critics(**shape, members=2, layer_norm=False, generator=generator_for(0, "critic")),
        actor_lr=1e-3,
        critic_lr=1e-3,
        alpha_lr=1e-3,
        alpha_init=0.5,
        alpha_max=None,
        target_entropy=-2.0,
        discount=0.9,
        tau=0.05,
        soft_backup=True,
        gradient_clip_norm=1.0,
        pessimism=None,
        target_bounds=None,
        actor_average=0.9,
        schedule_epochs=None,
        seed=0,
        compile=False,
    ).double()
    ran = trainer(world, 1, callbacks)
    ran.fit(module, train_dataloaders=FixedRows(module))
    return ran, module


def train_cloning(world: int, callbacks: list[L.Callback]) -> nn.Module:
    shape: dict[str, Any] = {"obs_dim": OBS, "action_dim": ACTION, "hidden_sizes": (16, 16)}
    limits: dict[str, Any] = {"log_std_min": -5.0, "log_std_max": 2.0}
    normaliser = Normaliser.identity(OBS)
    actor = TanhGaussianActor(**shape, **limits, normaliser=normaliser, generator=generator_for(0, "actor"))
    module = CloningModule(actor, actor_lr=1e-3, schedule_epochs=None).double()
    trainer(world, 1, callbacks).fit(module, train_dataloaders=FixedRows(module))
    return module


def train_dynamics(world: int) -> tuple[L.Trainer, nn.Module, MemberSelection]:
    rng = np.random.default_rng(0)
    observations, actions = rng.standard_normal((400, OBS)), rng.uniform(-1, 1, (400, ACTION))
    raw = RawLog(
        source="rows",
        observations=observations,
        actions=actions,
        rewards=observations[:, 0],
        terminals=np.zeros(400, bool),
        timeouts=np.arange(1, 401) % 50 == 0,
        next_observations=observations + 0.1 * rng.standard_normal((400, OBS)),
    )
    ones = np.ones(ACTION)
    dataset = assemble(raw, name="rows", bounds=(-ones, ones), time_limit=None, clip_actions=False)
    samples = EnsembleDataModule(
        dataset,
        members=3,
        batch_size=64 // world,
        updates_per_step=2,
        holdout_fraction=0.2,
        holdout_max=1000,
        seed=0,
    )
    samples.log_rows = Transitions(samples.log_rows.rows.double(), OBS, ACTION)
    ensemble = GaussianEnsemble(
        obs_dim=OBS,
        action_dim=ACTION,
        members=3,
        hidden_sizes=(16,),
        normaliser=samples.normaliser(),
        target_normaliser=samples.target_normaliser(),
        generator=generator_for(0, "ensemble"),
    )
    module = DynamicsModule(
        ensemble, elites=2, learning_rate=1e-3, weight_decay=(1e-4, 1e-4), bound_coef=0.01, beta=0.5, compile=False
    ).double()
    selection = MemberSelection(patience=2, improvement=0.05, geometric=False)
    ran = trainer(world, 12, [selection, RanksAgree()])
    ran.fit(module, datamodule=samples)
    return ran, module, selection


def main(folder: Path, world: int, mutant: bool, watched: bool, temperature_only: bool) -> None:
    if mutant:
        averaged = mopo_pl.sac.module.mean_over_ranks

        def own(gradients: list[Tensor]) -> list[Tensor]:
            return averaged(gradients) if temperature_only and len(gradients) > 1 else gradients

        mopo_pl.sac.module.mean_over_ranks = own  # type: ignore[attr-defined]
        mopo_pl.sac.cloning.mean_over_ranks = own  # type: ignore[attr-defined]
    ran, sac = train_sac(world, [] if mutant and not watched else [RanksAgree()])
    left: dict[str, Any] = {"sac": sac.state_dict(), "cloning": train_cloning(world, []).state_dict()}
    if not mutant:
        ran, dynamics, selection = train_dynamics(world)
        left |= {"dynamics": dynamics.state_dict(), "best": selection.best, "epochs": selection.epochs}
    torch.save(left, folder / f"{world}-{ran.global_rank}{'-mutant' if mutant else ''}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), "mutant" in sys.argv, "watched" in sys.argv, "temperature" in sys.argv)
