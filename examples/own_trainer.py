#!/usr/bin/env python3
"""Both stages in a Trainer of one's own, built from the classes: no configuration, no command line, no run folder.

python examples/own_trainer.py my_log.npz policy_folder

The log must have actions in [-1, 1] and no terminal states: its episodes end by time limits. Every value that matters is written out
here, because no class has defaults. The defaults of the command line stand in mopo_pl/config/schema.py.
"""

import argparse
from pathlib import Path
from typing import Any

import lightning as L
import torch

from mopo_pl import (
    DynamicsModule,
    EnsembleDataModule,
    OfflineDataModule,
    OfflineDataset,
    Policy,
    SACModule,
    open_dataset,
)
from mopo_pl.callbacks import MemberSelection, RolloutRefresh
from mopo_pl.config.schema import DataConfig
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.penalties import max_aleatoric
from mopo_pl.dynamics.termination import never
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import Critics

SEED = 0
HORIZON = 5
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


def fit_model(dataset: OfflineDataset, *, epochs: int, width: int) -> TransitionModel:
    """Stage 1: maximum likelihood of (r, Δs), one bootstrap sample for each member."""
    samples = EnsembleDataModule(
        dataset, members=7, batch_size=256, updates_per_step=10, holdout_fraction=0.2, holdout_max=1000, seed=SEED
    )
    ensemble = GaussianEnsemble(
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        members=7,
        hidden_sizes=[width, width],
        normaliser=samples.normaliser(),
        target_normaliser=samples.target_normaliser(),
        generator=generator_for(SEED, "ensemble weights"),
    )
    module = DynamicsModule(
        ensemble,
        elites=5,
        learning_rate=1e-3,
        weight_decay=[2.5e-5, 5e-5, 1e-4],  # of each layer, the output layer included
        bound_coef=0.01,
        beta=0.5,
        compile=False,
    )
    selection = MemberSelection(patience=5, improvement=0.01, geometric=True)
    L.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[selection], **QUIET).fit(module, datamodule=samples)
    return module.model()


def make_agent(dataset: OfflineDataset, *, epochs: int, width: int) -> SACModule:
    """Actor and critics, untrained."""
    normaliser = Normaliser.identity(dataset.obs_dim)
    actor = TanhGaussianActor(
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        hidden_sizes=[width, width],
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=normaliser,
        generator=generator_for(SEED, "actor weights"),
    )
    critic = Critics(
        members=2,
        layer_norm=False,
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        hidden_sizes=[width, width],
        normaliser=normaliser,
        generator=generator_for(SEED, "critic weights"),
    )
    return SACModule(
        actor,
        critic,
        actor_lr=1e-4,
        critic_lr=3e-4,
        alpha_lr=1e-4,
        alpha_init=1.0,
        alpha_max=1.0,
        target_entropy=-float(dataset.action_dim),
        discount=0.99,
        tau=0.005,
        soft_backup=True,
        gradient_clip_norm=None,
        pessimism=None,  # the minimum of both critics
        target_bounds=None,
        actor_average=None,
        schedule_epochs=epochs,
        seed=SEED,
        compile=False,
    )


def fit_policy(
    agent: SACModule, dataset: OfflineDataset, model: TransitionModel, *, epochs: int, updates: int, starts: int
) -> None:
    """Stage 2: SAC on logged and imagined transitions; a callback refreshes the imagined ones every epoch."""
    data = OfflineDataModule(
        dataset,
        batch_size=256,
        real_ratio=0.05,
        updates_per_epoch=updates,
        updates_per_step=10,
        retain=5,  # refreshes in the model buffer
        capacity=starts * HORIZON,  # transitions of one refresh
        refresh_folder=None,
        seed=SEED,
    )
    # r̃ = r̂ - λ·u
    penalised = PenalisedModel(transition=model, penalty=max_aleatoric, coef=0.5, termination=never)
    refresh = RolloutRefresh(
        penalised,
        horizon=HORIZON,
        starts=starts,
        every_n_epochs=1,
        chunk=5000,
        continue_share=0.0,  # every rollout starts from a logged state
        limits=StateLimits.around(dataset.transitions.observations, widths=10.0),
        max_dropped=0.5,
        seed=SEED,
        compile=False,
    )
    L.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[refresh], **QUIET).fit(agent, datamodule=data)


def main(arguments: list[str] | None = None) -> None:
    """Opens the log, trains both stages, and saves the policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", help="a file: .npz or .hdf5")
    parser.add_argument("folder", type=Path, help="where the policy is saved")
    parser.add_argument("--model-epochs", type=int, default=30, help="at most (%(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="of the policy (%(default)s)")
    parser.add_argument("--updates", type=int, default=1000, help="of an epoch (%(default)s)")
    parser.add_argument("--starts", type=int, default=5000, help="of the rollouts of a refresh (%(default)s)")
    parser.add_argument("--width", type=int, default=200, help="of the hidden layers (%(default)s)")
    options = parser.parse_args(arguments)

    dataset = open_dataset(name=options.log, data=DataConfig(), env_id=None, env_kwargs={})
    model = fit_model(dataset, epochs=options.model_epochs, width=options.width)
    agent = make_agent(dataset, epochs=options.epochs, width=options.width)
    fit_policy(agent, dataset, model, epochs=options.epochs, updates=options.updates, starts=options.starts)

    policy = Policy(agent.actor, dataset.action_low, dataset.action_high, meta={"log": options.log})
    policy.save(options.folder)
    print(policy(torch.zeros(dataset.obs_dim)))


if __name__ == "__main__":
    main()
