"""From a `Config` to the finished parts: the log, modules, DataModules, callbacks.

The one place where settings become arguments. The parts themselves know nothing of `Config`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mopo_pl.callbacks import MemberSelection, PolicyEvaluation, RolloutRefresh
from mopo_pl.config.registry import resolve
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.opening import open_dataset
from mopo_pl.data.policy_batches import OfflineDataModule
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.penalties import PENALTIES, Penalty
from mopo_pl.dynamics.rollouts import PenalisedModel, StateLimits
from mopo_pl.dynamics.termination import termination_rule
from mopo_pl.environments.scores import normalised_score
from mopo_pl.errors import InputError
from mopo_pl.nn.compilation import resolve_compile
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import stream
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import TwinCritic
from mopo_pl.sac.module import SACModule


def open_log(config: Config) -> OfflineDataset:
    """The log that `dataset` names; raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def needs_model(config: Config) -> bool:
    """Whether any imagined row will be used."""
    return config.stage != "dynamics" and config.rollout.real_ratio < 1


def trains_model(config: Config) -> bool:
    """Whether stage 1 is part of the run."""
    return config.dynamics_from is None and (config.stage == "dynamics" or needs_model(config))


def compiled_parts(config: Config, dataset: OfflineDataset) -> list[str]:
    """What `compile` comes to for a run with this log; raises InputError as `resolve_compile` does."""
    epochs = 0 if config.stage == "dynamics" else config.trainer.max_epochs
    refreshes = math.ceil(epochs / config.rollout.every_n_epochs) if needs_model(config) else 0
    model_epochs = config.dynamics.max_epochs if trains_model(config) else 0
    amounts = {
        "policy": epochs * config.sac.updates_per_epoch,
        "ensemble": model_epochs * math.ceil(len(dataset.transitions) / config.dynamics.batch_size),
        "rollouts": refreshes * config.rollout.starts * config.rollout.horizon,
    }
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return resolve_compile(config.compile, amounts, "cuda" if on_gpu else "cpu")


# Stage 1: the ensemble


def build_samples(config: Config, dataset: OfflineDataset) -> EnsembleDataModule:
    """The rows each member sees."""
    settings = config.dynamics
    return EnsembleDataModule(
        dataset,
        members=settings.members,
        batch_size=settings.batch_size,
        updates_per_step=settings.updates_per_step,
        holdout_fraction=settings.holdout_fraction,
        holdout_max=settings.holdout_max,
        seed=config.seed,
    )


def build_dynamics(config: Config, dataset: OfflineDataset, samples: EnsembleDataModule) -> DynamicsModule:
    """LightningModule 1, untrained."""
    settings = config.dynamics
    raw = Normaliser.identity(1 + dataset.obs_dim)
    ensemble = GaussianEnsemble(
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        members=settings.members,
        hidden_sizes=settings.hidden_sizes,
        normaliser=samples.normaliser(),
        target_normaliser=samples.target_normaliser() if settings.normalise_targets else raw,
        generator=stream(config.seed, "ensemble weights"),
    )
    return DynamicsModule(
        ensemble,
        elites=settings.elites,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        bound_coef=settings.bound_coef,
        beta=settings.beta,
        compile="ensemble" in compiled_parts(config, dataset),
    )


def build_selection(config: Config) -> MemberSelection:
    """The callback that stops the ensemble, restores each member's best weights and picks the elites."""
    return MemberSelection(patience=config.dynamics.patience, improvement=config.dynamics.improvement)


# Stage 2: the policy


def build_data(config: Config, dataset: OfflineDataset, refresh_folder: Path | None = None) -> OfflineDataModule:
    """The DataModule that mixes real and imagined rows; `refresh_folder` as it takes it."""
    return OfflineDataModule(
        dataset,
        batch_size=config.sac.batch_size,
        real_ratio=config.rollout.real_ratio,
        updates_per_epoch=config.sac.updates_per_epoch,
        updates_per_step=config.sac.updates_per_step,
        retain=config.rollout.retain_epochs,
        capacity=config.rollout.starts * config.rollout.horizon,
        refresh_folder=refresh_folder,
        seed=config.seed,
    )


def build_sac(config: Config, dataset: OfflineDataset) -> SACModule:
    """LightningModule 2, untrained."""
    settings = config.sac
    shape: dict[str, Any] = {
        "obs_dim": dataset.obs_dim,
        "action_dim": dataset.action_dim,
        "hidden_sizes": settings.hidden_sizes,
    }
    normaliser = (
        Normaliser.fit(dataset.transitions.observations)
        if settings.normalise_observations
        else Normaliser.identity(dataset.obs_dim)
    )
    actor = TanhGaussianActor(
        **shape,
        log_std_min=settings.log_std_min,
        log_std_max=settings.log_std_max,
        normaliser=normaliser,
        generator=stream(config.seed, "actor weights"),
    )
    critic = TwinCritic(**shape, normaliser=normaliser, generator=stream(config.seed, "critic weights"))
    epochs = settings.schedule_epochs or config.trainer.max_epochs
    return SACModule(
        actor,
        critic,
        actor_lr=settings.actor_lr,
        critic_lr=settings.critic_lr,
        alpha_lr=settings.alpha_lr,
        alpha_init=settings.alpha_init,
        alpha_max=settings.alpha_max,
        target_entropy=-float(dataset.action_dim) if settings.target_entropy is None else settings.target_entropy,
        discount=settings.discount,
        tau=settings.tau,
        soft_backup=not settings.deterministic_backup,
        gradient_clip_norm=settings.gradient_clip_norm,
        schedule_epochs=epochs if settings.actor_schedule == "cosine" else None,
        seed=config.seed,
        compile="policy" in compiled_parts(config, dataset),
    )


def build_penalty(config: Config) -> Penalty:
    """u(s, a), by name or `module:function`; raises InputError where it cannot be found."""
    try:
        return resolve("penalty", config.penalty.name, PENALTIES)
    except ValueError as error:
        raise InputError(f"penalty.name={config.penalty.name}: {error}") from error


def build_refresh(config: Config, model: TransitionModel, dataset: OfflineDataset) -> RolloutRefresh:
    """The callback that fills the model buffer."""
    penalised = PenalisedModel(
        transition=model,
        penalty=build_penalty(config),
        coef=config.penalty.coef,
        termination=termination_rule(config.termination, dataset.env_id),
    )
    states = torch.cat([dataset.transitions.observations, dataset.transitions.next_observations])
    return RolloutRefresh(
        penalised,
        horizon=config.rollout.horizon,
        starts=config.rollout.starts,
        every_n_epochs=config.rollout.every_n_epochs,
        chunk=config.rollout.chunk,
        limits=StateLimits.around(states, config.rollout.range_widths),
        max_dropped=config.rollout.max_dropped,
        seed=config.seed,
        compile="rollouts" in compiled_parts(config, dataset),
    )


def build_evaluation(config: Config, dataset: OfflineDataset, env_id: str) -> PolicyEvaluation:
    """The callback that scores the policy."""
    return PolicyEvaluation(
        act=partial(_acting, dataset=dataset),
        env_id=env_id,
        env_kwargs=environment_arguments(config, dataset),
        episodes=config.evaluation.episodes,
        every_n_epochs=config.evaluation.every_n_epochs,
        seed=evaluation_seed(config.seed),
        score=partial(normalised_score, env_id),
    )


def environment_arguments(config: Config, dataset: OfflineDataset) -> Mapping[str, Any]:
    """`env_kwargs`, else what the log says of its environment."""
    return config.env_kwargs or dataset.env_kwargs


def evaluation_seed(seed: int) -> int:
    """First seed of the environments, apart from every seed of training."""
    return int(torch.randint(2**30, (), generator=stream(seed, "evaluation")))


def as_policy(module: SACModule, dataset: OfflineDataset, meta: Mapping[str, Any]) -> Policy:
    """What a run exports: the actor, and the bounds its actions are scaled back to."""
    return Policy(module.actor, dataset.action_low, dataset.action_high, meta)


def _acting(module: SACModule, dataset: OfflineDataset) -> Callable[[np.ndarray], np.ndarray]:
    """The mean action in the environment's units."""
    return as_policy(module, dataset, {})
