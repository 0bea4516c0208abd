"""Build the LightningModules that train a policy in stage 2 from settings, and the policy that a run exports."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mopo_pl.assembly.log import rewards_of
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import SACConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import logged_values
from mopo_pl.dynamics.penalised_model import Reward
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, ACTOR_METHODS, ACTORS, TanhGaussianActor
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.losses import reachable_returns
from mopo_pl.sac.module import SACModule
from mopo_pl.sac.policy_module import PolicyModule


def build_sac(
    settings: SACConfig, dataset: OfflineDataset, reward: Reward | None = None, *, seed: int, compile: bool
) -> SACModule:
    """Build the untrained LightningModule of soft actor-critic.

    `reward` is the known reward function of imagined steps, if any. Its range outside of the log is not known, so that the critics'
    targets are then not clipped. Raises ValueError if a cosine schedule has no length yet, which `config.resolve` sets.
    """
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
    if settings.start_at_log_value:
        critic.start_at(float(logged_values(dataset, settings.discount, rewards_of(dataset, reward)).mean()))
    bounds = None
    if settings.bound_targets and reward is None:
        bounds = reachable_returns(dataset.transitions.rewards, settings.discount)
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
    """Return the target entropy H̄ [nats]: the setting, or minus the number of action dimensions if it is not set."""
    return -float(dataset.action_dim) if settings.target_entropy is None else settings.target_entropy


def observation_normaliser(settings: SACConfig, dataset: OfflineDataset) -> Normaliser:
    """Return the normaliser of observations for actor and critics: z-scores with the log's statistics, or the identity."""
    if settings.normalise_observations:
        return Normaliser.fit(dataset.transitions.observations)
    return Normaliser.identity(dataset.obs_dim)


def build_cloning(settings: SACConfig, dataset: OfflineDataset, *, seed: int) -> CloningModule:
    """Build the untrained module for behaviour cloning of the log's actions. Raises ValueError as `build_sac` does."""
    schedule_epochs = _schedule_epochs(settings)
    actor = build_actor(settings, dataset, observation_normaliser(settings, dataset), seed=seed)
    return CloningModule(actor, actor_lr=settings.actor_lr, schedule_epochs=schedule_epochs)


def _schedule_epochs(settings: SACConfig) -> int | None:
    """Return the length of the actor's cosine schedule [epochs], or None for a constant learning rate."""
    if settings.actor_schedule == "constant":
        return None
    if settings.schedule_epochs is None:
        raise ValueError("sac.schedule_epochs is still open: resolve the configuration first")
    return settings.schedule_epochs


def actor_class(name: str) -> Callable[..., TanhGaussianActor]:
    """Return the actor class that a built-in name or `module:Class` selects. Raises InputError if it cannot be found."""
    try:
        return lookup("actor", name, ACTORS)
    except ValueError as error:
        raise InputError(f"sac.actor={name}: {error}") from error


def build_actor(
    settings: SACConfig, dataset: OfflineDataset, normaliser: Normaliser, *, seed: int
) -> TanhGaussianActor:
    """Build the policy network. Raises InputError if a class of the user cannot be built, or is not an actor."""
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


def as_policy(module: PolicyModule, dataset: OfflineDataset, meta: Mapping[str, Any]) -> Policy:
    """Return the policy that a run exports: the deployed actor, with the bounds to which its actions are scaled."""
    bounds = dataset.action_low, dataset.action_high
    return Policy(module.deployed_actor, *bounds, meta, history=dataset.transitions.history)
