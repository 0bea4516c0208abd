"""From settings to the finished parts: the log, modules, DataModules, callbacks.

Sections of a configuration become arguments here. The parts know nothing of the configuration; `open_dataset` alone takes its
section `data` whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from mopo_pl.callbacks import MemberSelection, PolicyEvaluation, PolicyHealth, RolloutRefresh
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import (
    ClassifierConfig,
    Config,
    DynamicsConfig,
    EvaluationConfig,
    PenaltyConfig,
    RolloutConfig,
    SACConfig,
)
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset
from mopo_pl.data.statistics import LogStatistics, lowest_return
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.penalties import PENALTIES, Penalty, extras_of, relative_unit
from mopo_pl.dynamics.rewards import Reward
from mopo_pl.dynamics.rollouts import PINNED, Halt, PenalisedModel, StateLimits
from mopo_pl.dynamics.terminals.classifier import TerminalClassifier
from mopo_pl.dynamics.terminals.module import TerminalModule
from mopo_pl.dynamics.terminals.samples import TerminalDataModule
from mopo_pl.dynamics.termination import Rule
from mopo_pl.environments.scores import normalised_score
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser, normal_
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, ACTOR_METHODS, ACTORS, TanhGaussianActor
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.losses import reachable_returns
from mopo_pl.sac.module import SACModule
from mopo_pl.sac.policy_module import PolicyModule

LOGGED_PENALTIES = 20_000
"""Rows of a log from which the mean of u is estimated."""


def open_log(config: Config) -> OfflineDataset:
    """The log that `dataset` names; raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def examine_log(config: Config) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """The log that `dataset` names, and what the checks say of it; raises InputError as `examine` does."""
    return examine(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


# Stage 1: the ensemble


def build_samples(
    settings: DynamicsConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> EnsembleDataModule:
    """The rows each member sees; `on_host`, here and below: the log stays in the host's memory."""
    return EnsembleDataModule(
        dataset,
        members=settings.members,
        batch_size=settings.batch_size,
        updates_per_step=settings.updates_per_step,
        holdout_fraction=settings.holdout_fraction,
        holdout_max=settings.holdout_max,
        seed=seed,
        on_host=on_host,
    )


def build_dynamics(
    settings: DynamicsConfig, samples: EnsembleDataModule, *, seed: int, compile: bool
) -> DynamicsModule:
    """LightningModule 1, untrained, for the rows of `samples`."""
    log = samples.log_rows
    raw = Normaliser.identity(1 + log.newest_dim)
    ensemble = GaussianEnsemble(
        obs_dim=log.obs_dim,
        action_dim=log.action_dim,
        members=settings.members,
        hidden_sizes=settings.hidden_sizes,
        normaliser=samples.normaliser(),
        target_normaliser=samples.target_normaliser() if settings.normalise_targets else raw,
        generator=generator_for(seed, "ensemble weights"),
        newest_dim=None if log.history == 1 else log.newest_dim,
    )
    if not settings.truncated_init:
        generator = generator_for(seed, "ensemble weights")
        for layer in ensemble.layers:
            normal_(layer, generator)
    return DynamicsModule(
        ensemble,
        elites=settings.elites,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        bound_coef=settings.bound_coef,
        beta=settings.beta,
        huber_delta=settings.huber_delta,
        compile=compile,
    )


def build_selection(settings: DynamicsConfig) -> MemberSelection:
    """The callback that stops the ensemble, restores each member's best weights and picks the elites."""
    return MemberSelection(
        patience=settings.patience, improvement=settings.improvement, geometric=settings.criterion == "geometric"
    )


def build_terminal_samples(
    settings: ClassifierConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> TerminalDataModule:
    """The rows the classifier of terminals sees; raises ValueError where one kind has too few."""
    return TerminalDataModule(
        dataset,
        batch_size=settings.batch_size,
        updates_per_epoch=settings.updates_per_epoch,
        holdout_fraction=settings.holdout_fraction,
        seed=seed,
        on_host=on_host,
    )


def build_terminals(settings: ClassifierConfig, samples: TerminalDataModule, *, seed: int) -> TerminalModule:
    """The LightningModule of the classifier of terminals, untrained, for the rows of `samples`."""
    classifier = TerminalClassifier(
        obs_dim=samples.rows.obs_dim,
        action_dim=samples.rows.action_dim,
        hidden_sizes=settings.hidden_sizes,
        share=samples.share,
        normaliser=samples.normaliser(),
        generator=generator_for(seed, "classifier weights"),
    )
    return TerminalModule(
        classifier,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        schedule_updates=settings.epochs * settings.updates_per_epoch,
    )


# Stage 2: the policy


def build_batches(
    sac: SACConfig,
    rollout: RolloutConfig,
    dataset: OfflineDataset,
    *,
    seed: int,
    refresh_folder: Path | None = None,
    on_host: bool = False,
) -> OfflineDataModule:
    """The DataModule that mixes logged and imagined rows; `refresh_folder` as it takes it."""
    return OfflineDataModule(
        dataset,
        batch_size=sac.batch_size,
        real_ratio=rollout.real_ratio,
        updates_per_epoch=sac.updates_per_epoch,
        updates_per_step=sac.updates_per_step,
        retain=rollout.retain_epochs,
        capacity=rollout.starts * rollout.horizon,
        refresh_folder=refresh_folder,
        seed=seed,
        on_host=on_host,
    )


def build_sac(settings: SACConfig, dataset: OfflineDataset, *, seed: int, compile: bool) -> SACModule:
    """LightningModule 2, untrained. Raises ValueError where a cosine schedule has no length yet (`config.resolve`)."""
    schedule_epochs = _schedule_epochs(settings)
    shape: dict[str, Any] = {
        "obs_dim": dataset.obs_dim,
        "action_dim": dataset.action_dim,
        "hidden_sizes": settings.hidden_sizes,
    }
    normaliser = observation_normaliser(settings, dataset)
    actor = build_actor(settings, dataset, normaliser, seed=seed)
    critic = Critics(
        **shape,
        members=settings.critics,
        layer_norm=settings.critic_layer_norm,
        normaliser=normaliser,
        generator=generator_for(seed, "critic weights"),
    )
    bounds = reachable_returns(dataset.transitions.rewards, settings.discount) if settings.bound_targets else None
    return SACModule(
        actor,
        critic,
        actor_lr=settings.actor_lr,
        critic_lr=settings.critic_lr,
        alpha_lr=settings.alpha_lr,
        alpha_init=settings.alpha_init,
        alpha_max=settings.alpha_max,
        target_entropy=target_entropy(settings, dataset),
        discount=settings.discount,
        tau=settings.tau,
        soft_backup=not settings.deterministic_backup,
        gradient_clip_norm=settings.gradient_clip_norm,
        pessimism=settings.pessimism,
        target_bounds=bounds,
        actor_average=settings.actor_average,
        schedule_epochs=schedule_epochs,
        seed=seed,
        compile=compile,
    )


def target_entropy(settings: SACConfig, dataset: OfflineDataset) -> float:
    """H̄ [nats]: the given one, or minus the number of action dimensions."""
    return -float(dataset.action_dim) if settings.target_entropy is None else settings.target_entropy


def observation_normaliser(settings: SACConfig, dataset: OfflineDataset) -> Normaliser:
    """What actor and critics do to observations first: z-scores of the log, or nothing."""
    if settings.normalise_observations:
        return Normaliser.fit(dataset.transitions.observations)
    return Normaliser.identity(dataset.obs_dim)


def build_cloning(settings: SACConfig, dataset: OfflineDataset, *, seed: int) -> CloningModule:
    """The module that clones the log's actions, untrained. Raises ValueError as `build_sac` does."""
    schedule_epochs = _schedule_epochs(settings)
    actor = build_actor(settings, dataset, observation_normaliser(settings, dataset), seed=seed)
    return CloningModule(actor, actor_lr=settings.actor_lr, schedule_epochs=schedule_epochs)


def build_logged_batches(
    settings: SACConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> OfflineDataModule:
    """The DataModule of logged rows alone, for cloning, which reads no next state: every row is of use to it."""
    return OfflineDataModule(
        replace(dataset, next_known=torch.ones_like(dataset.next_known)),
        batch_size=settings.batch_size,
        real_ratio=1.0,
        updates_per_epoch=settings.updates_per_epoch,
        updates_per_step=settings.updates_per_step,
        retain=1,
        capacity=0,
        refresh_folder=None,
        seed=seed,
        on_host=on_host,
    )


def _schedule_epochs(settings: SACConfig) -> int | None:
    """Length of the actor's cosine schedule; None: a constant step size."""
    if settings.actor_schedule == "constant":
        return None
    if settings.schedule_epochs is None:
        raise ValueError("sac.schedule_epochs is still open: resolve the configuration first")
    return settings.schedule_epochs


def actor_class(name: str) -> Callable[..., TanhGaussianActor]:
    """Return the class of actors of that name, or `module:Class`; raises InputError if it cannot be found."""
    try:
        return lookup("actor", name, ACTORS)
    except ValueError as error:
        raise InputError(f"sac.actor={name}: {error}") from error


def build_actor(
    settings: SACConfig, dataset: OfflineDataset, normaliser: Normaliser, *, seed: int
) -> TanhGaussianActor:
    """Build the policy network. Raises InputError if the user's own class cannot be built, or is no actor."""
    make = actor_class(settings.actor)
    try:
        actor = make(
            obs_dim=dataset.obs_dim,
            action_dim=dataset.action_dim,
            hidden_sizes=settings.hidden_sizes,
            log_std_min=settings.log_std_min,
            log_std_max=settings.log_std_max,
            normaliser=normaliser,
            generator=generator_for(seed, "actor weights"),
        )
    except Exception as error:
        if make is TanhGaussianActor:
            raise
        raise InputError(f"sac.actor={settings.actor} cannot be built: {type(error).__name__}: {error}") from error
    needed = [*ACTOR_ARGUMENTS, "normaliser", *ACTOR_METHODS]
    missing = [name for name in needed if not hasattr(actor, name)] if isinstance(actor, nn.Module) else ["nn.Module"]
    if missing:
        raise InputError(f"sac.actor={settings.actor} must have {', '.join(missing)}, as a TanhGaussianActor has")
    return actor


def build_callbacks(names: Sequence[str]) -> list[L.Callback]:
    """Build the user's own callbacks, each named `module:Class`; raises InputError if one cannot be built."""
    return [_built_callback(name) for name in names]


def _built_callback(name: str) -> L.Callback:
    try:
        callback = lookup("callback", name, {})()
    except Exception as error:
        raise InputError(f"callbacks=[{name}]: {error}") from error
    if not isinstance(callback, L.Callback):
        raise InputError(f"callbacks=[{name}] is a {type(callback).__name__}, not a Lightning Callback")
    return callback


def build_penalty(name: str) -> Penalty:
    """u(s, a), by name or `module:function`; raises InputError where it cannot be found."""
    try:
        penalty = lookup("penalty", name, PENALTIES)
        extras_of(penalty)
    except ValueError as error:
        raise InputError(f"penalty.name={name}: {error}") from error
    return penalty


def build_penalised_model(
    settings: PenaltyConfig,
    model: TransitionModel,
    termination: Rule,
    dataset: OfflineDataset,
    reward: Reward | None = None,
    *,
    discount: float,
) -> PenalisedModel:
    """M̃: the model, its penalty, the rule that ends its episodes, the reward where it is known, and γ.

    Functions of the user's own see actions in the log's units.
    """
    plain = PenalisedModel(
        transition=model,
        penalty=build_penalty(settings.name),
        coef=settings.coef,
        value_coef=settings.value_coef,
        discount=discount,
        halt=None if settings.halt_widths is None else _halt(dataset, settings.halt_widths, discount),
        termination=termination,
        reward=reward,
        log=LogStatistics.of(dataset),
        window=dataset.window,
    )
    if not settings.relative and settings.free_quantile is None:
        return plain
    u = logged_uncertainty(plain, dataset)
    unit = relative_unit(u, dataset.transitions.rewards) if settings.relative else 1.0
    free = 0.0 if settings.free_quantile is None else float(u.quantile(settings.free_quantile))
    return replace(plain, coef=unit * settings.coef, free=free)


def _halt(dataset: OfflineDataset, widths: float, discount: float) -> Halt:
    """What is beyond the log's states, extended by `widths` times their range, is worth no more than the worst of them."""
    return Halt(StateLimits.around(_states(dataset), widths), lowest_return(dataset, discount))


def _states(dataset: OfflineDataset) -> Tensor:
    """All states of a log [2N, D]."""
    return torch.cat([dataset.transitions.observations, dataset.transitions.next_observations])


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """u of up to 20 000 logged transitions, drawn without replacement and always the same [n]."""
    drawn = torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[:LOGGED_PENALTIES]
    rows = dataset.transitions
    chunks = [model.uncertainty(rows[chunk].observations, rows[chunk].actions) for chunk in drawn.split(2000)]
    return torch.cat(chunks)


def build_refresh(
    settings: RolloutConfig, model: PenalisedModel, dataset: OfflineDataset, *, seed: int, compile: bool
) -> RolloutRefresh:
    """The callback that fills the model buffer."""
    return RolloutRefresh(
        model,
        horizon=settings.horizon,
        starts=settings.starts,
        every_n_epochs=settings.every_n_epochs,
        chunk=settings.chunk,
        continue_share=settings.continue_share,
        limits=StateLimits.around(_states(dataset), settings.range_widths),
        max_dropped=settings.max_dropped,
        seed=seed,
        compile=compile,
    )


def build_evaluation(
    settings: EvaluationConfig, dataset: OfflineDataset, *, seed: int, heed: Callable[[], None] = lambda: None
) -> PolicyEvaluation:
    """The callback that scores the policy in the log's environment; raises ValueError where it has none."""
    if dataset.env_id is None:
        raise ValueError("the log names no environment, and none was given")
    return PolicyEvaluation(
        policy_of=partial(_acting, dataset=dataset),
        env_id=dataset.env_id,
        env_kwargs=dataset.env_kwargs,
        episodes=settings.episodes,
        every_n_epochs=settings.every_n_epochs,
        seed=evaluation_seed(seed),
        score=partial(normalised_score, dataset.env_id),
        heed=heed,
    )


def run_facts(config: Config, dataset: OfflineDataset) -> RunFacts:
    """What the signs of health must know of a log and of a run's settings."""
    sac, rows = config.sac, dataset.transitions
    rewards = rows.rewards.double()
    return RunFacts(
        reward_low=float(rewards.min()),
        reward_high=float(rewards.max()),
        reward_mean=float(rewards.mean()),
        reward_std=float(rewards.std(correction=0)),
        reward_size=float(rewards.abs().mean()),
        reward_top=float(np.quantile(rewards.numpy(), 0.99)),  # torch's takes 16 million rows at most
        behaviour_return=float(dataset.episode_returns().mean()),
        terminal_share=float(rows.terminals.double().mean()),
        pinned_share=float((rows.actions.abs() > PINNED).double().mean()),
        discount=sac.discount,
        target_entropy=target_entropy(sac, dataset),
        action_dim=dataset.action_dim,
        alpha_max=sac.alpha_max,
        soft_backup=not sac.deterministic_backup,
        real_ratio=config.rollout.real_ratio,
        known_reward=config.reward is not None,
    )


def build_health(config: Config, dataset: OfflineDataset) -> PolicyHealth:
    """The callback that judges the rows of stage 2; it stands after the callbacks that note values."""
    return PolicyHealth(run_facts(config, dataset), after=config.health.after, stop=config.health.stop)


def evaluation_seed(seed: int) -> int:
    """First seed of the environments, apart from every seed of training."""
    return int(torch.randint(2**30, (), generator=generator_for(seed, "evaluation")))


def as_policy(module: PolicyModule, dataset: OfflineDataset, meta: Mapping[str, Any]) -> Policy:
    """What a run exports: the actor, and the bounds its actions are scaled back to."""
    bounds = dataset.action_low, dataset.action_high
    return Policy(module.deployed_actor, *bounds, meta, history=dataset.transitions.history)


def _acting(module: PolicyModule, dataset: OfflineDataset) -> Callable[[np.ndarray], np.ndarray]:
    """The mean action in the environment's units."""
    return as_policy(module, dataset, {})
