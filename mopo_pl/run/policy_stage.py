"""Stage 2: from a log and a model to a policy on disk."""

from collections.abc import Callable
from functools import partial

import lightning as L
import numpy as np
import torch

from mopo_pl.callbacks import Checkpoints, PolicyEvaluation, RolloutRefresh
from mopo_pl.callbacks.checkpoints import checkpoints
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.mixture import OfflineDataModule
from mopo_pl.data.scores import normalised_score
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalty import PENALTIES
from mopo_pl.dynamics.rollouts import PenalisedModel
from mopo_pl.dynamics.termination import termination_rule
from mopo_pl.layers import Normaliser
from mopo_pl.policy import Policy
from mopo_pl.registry import resolve
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import build_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import TwinCritic
from mopo_pl.sac.module import SACModule
from mopo_pl.streams import stream

STAGE = "policy"


def build_data(config: Config, dataset: OfflineDataset) -> OfflineDataModule:
    """The DataModule that mixes real and imagined rows."""
    return OfflineDataModule(
        dataset,
        batch_size=config.sac.batch_size,
        real_ratio=config.rollout.real_ratio,
        updates_per_epoch=config.sac.updates_per_epoch,
        retain=config.rollout.retain_epochs,
        capacity=config.rollout.starts * config.rollout.horizon,
        seed=config.seed,
    )


def build_module(config: Config, dataset: OfflineDataset) -> SACModule:
    """LightningModule 2, untrained."""
    settings = config.sac
    shape = {"obs_dim": dataset.obs_dim, "action_dim": dataset.action_dim, "hidden_sizes": settings.hidden_sizes}
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
    schedule = settings.schedule_epochs or config.trainer.max_epochs
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
        schedule_epochs=schedule if settings.actor_schedule == "cosine" else None,
        seed=config.seed,
        compile=config.compile == "true" or (config.compile == "auto" and torch.cuda.is_available()),
    )


def build_refresh(config: Config, model: TransitionModel, env_id: str | None) -> RolloutRefresh:
    """The callback that fills the model buffer."""
    penalised = PenalisedModel(
        transition=model,
        penalty=resolve("penalty", config.penalty.name, PENALTIES),
        coef=config.penalty.coef,
        termination=termination_rule(config.termination, env_id),
    )
    return RolloutRefresh(
        penalised,
        horizon=config.rollout.horizon,
        starts=config.rollout.starts,
        every_n_epochs=config.rollout.every_n_epochs,
        chunk=config.rollout.chunk,
        seed=config.seed,
    )


def build_evaluation(config: Config, dataset: OfflineDataset, env_id: str) -> PolicyEvaluation:
    """The callback that scores the policy."""
    return PolicyEvaluation(
        act=partial(deterministic, dataset=dataset),
        env_id=env_id,
        env_kwargs=config.env_kwargs or dataset.env_kwargs,
        episodes=config.evaluation.episodes,
        every_n_epochs=config.evaluation.every_n_epochs,
        seed=evaluation_seed(config.seed),
        score=partial(normalised_score, env_id),
    )


def evaluation_seed(seed: int) -> int:
    """First seed of the environments, apart from every seed of training."""
    return int(torch.randint(2**30, (), generator=stream(seed, "evaluation")))


def as_policy(module: SACModule, dataset: OfflineDataset, env_id: str | None) -> Policy:
    """What a run exports: the actor, and the bounds its actions are scaled back to."""
    return Policy(module.actor, dataset.action_low, dataset.action_high, {"env_id": env_id})


def deterministic(module: SACModule, dataset: OfflineDataset) -> Callable[[np.ndarray], np.ndarray]:
    """The mean action in the environment's units."""
    return as_policy(module, dataset, None)


def train_policy(
    config: Config,
    dataset: OfflineDataset,
    model: TransitionModel | None,
    env_id: str | None,
    folder: RunFolder,
    watch: SignalWatch,
) -> tuple[int, list[list[float]], float]:
    """Trains SAC, from the newest checkpoint where there is one, and writes `policy/`.

    Returns the updates made, the curve ([updates, mean return] of each evaluation) and the seconds of training.
    """
    module = build_module(config, dataset)
    evaluation = build_evaluation(config, dataset, env_id) if env_id else None
    callbacks: list[L.Callback] = [] if model is None else [build_refresh(config, model, env_id)]
    callbacks += [evaluation] if evaluation else []
    metrics = MetricsFile(folder.metrics, stage=STAGE)
    saving = Checkpoints(
        folder=folder.checkpoints,
        stage=STAGE,
        every_minutes=config.checkpoint.every_minutes,
        signalled=lambda: watch.received,
    )
    callbacks += [forget_unsaved(metrics), saving]
    trainer = build_trainer(
        config,
        folder,
        stage=STAGE,
        max_epochs=config.trainer.max_epochs,
        at_most=False,
        watch=("evaluation/return", "policy/q1", "policy/alpha", "rollout/penalty"),
        callbacks=callbacks,
        loggers=[metrics, *build_loggers(config.logger, folder, STAGE)],
    )
    newest = checkpoints(folder.checkpoints, STAGE)[-1:]
    data = build_data(config, dataset)
    trainer.fit(module, datamodule=data, ckpt_path=str(newest[0]) if newest else None)
    module.to("cpu")
    if trainer.is_global_zero:
        as_policy(module, dataset, env_id).save(folder.policy)
    trainer.strategy.barrier()
    return module.updates, evaluation.history if evaluation else [], saving.seconds
