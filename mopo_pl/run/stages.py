"""One stage: a LightningModule fitted by a Trainer, from its newest checkpoint where there is one."""

from collections.abc import Callable
from dataclasses import dataclass

import lightning as L

from mopo_pl.assembly import (
    as_policy,
    build_data,
    build_dynamics,
    build_evaluation,
    build_refresh,
    build_sac,
    build_samples,
    build_selection,
    environment_arguments,
)
from mopo_pl.callbacks import Checkpoints, RanksAgree
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.distributed.console import say
from mopo_pl.distributed.signals import SignalWatch
from mopo_pl.dynamics.model import TransitionModel, save_model
from mopo_pl.errors import PeerLost
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import open_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved
from mopo_pl.run.trainer import build_trainer
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import REFRESHES, CheckpointFiles

PEER_LOST = ("gloo", "NCCL", "closed by peer", "reset by peer")
"""What torch's errors say when another process of the group has ended."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What tells the two stages apart."""

    name: str
    max_epochs: int
    at_most: bool
    """Whether it may end before its last epoch."""
    shown: tuple[str, ...]
    """Logged values that the progress line shows."""


def fit_stage(
    stage: Stage,
    module: L.LightningModule,
    data: L.LightningDataModule,
    callbacks: list[L.Callback],
    *,
    config: Config,
    folder: RunFolder,
    watch: SignalWatch,
    score: Callable[[], float | None] = lambda: None,
) -> tuple[L.Trainer, float]:
    """Trains to the stage's end; returns the Trainer and the seconds it took, over all resumptions.

    `score`: how good the module is by its last evaluation, higher is better; None where it was not evaluated.
    """
    files = CheckpointFiles(folder.checkpoints, stage.name)
    saving = Checkpoints(
        files,
        every_minutes=config.checkpoint.every_minutes,
        signalled=lambda: watch.received,
        score=score,
    )
    metrics = MetricsFile(folder.metrics, stage=stage.name)
    newest = files.newest_whole()
    files.drop_after(newest)
    if newest is None and config.resume is not None:
        say(f"{stage.name}: there is no checkpoint, so that it starts from its beginning")
    with open_loggers(config, folder, metrics) as loggers:
        trainer = build_trainer(
            config,
            folder,
            stage=stage.name,
            max_epochs=stage.max_epochs,
            at_most=stage.at_most,
            watch=stage.shown,
            callbacks=[*callbacks, watch.keeping(), forget_unsaved(metrics), RanksAgree(), saving],
            loggers=[*loggers, metrics],
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=None if newest is None else str(newest), weights_only=True)
        except RuntimeError as error:
            if trainer.world_size > 1 and any(sign in str(error) for sign in PEER_LOST):
                raise PeerLost from error
            raise
    return trainer, saving.seconds


def train_dynamics(config: Config, dataset: OfflineDataset, folder: RunFolder, watch: SignalWatch) -> None:
    """Fits the ensemble and writes `dynamics.*`."""
    stage = Stage(
        name="dynamics",
        max_epochs=config.dynamics.max_epochs,
        at_most=True,
        shown=("dynamics/train_loss", "dynamics/holdout_mse_0"),
    )
    samples, selection = build_samples(config, dataset), build_selection(config)
    module = build_dynamics(config, dataset, samples)
    trainer, seconds = fit_stage(stage, module, samples, [selection], config=config, folder=folder, watch=watch)
    model = module.model().to("cpu")
    if trainer.is_global_zero:
        best = [] if selection.best is None else selection.best.tolist()
        facts = {"holdout_mse": best, "epochs": selection.epochs, "seconds": seconds, "dataset": dataset.hash}
        save_model(model, folder.path, facts)
    trainer.strategy.barrier()


def train_policy(
    config: Config,
    dataset: OfflineDataset,
    model: TransitionModel | None,
    env_id: str | None,
    folder: RunFolder,
    watch: SignalWatch,
    before_policy: Callable[[SACModule], None],
) -> tuple[int, list[list[float]], float]:
    """Trains SAC, after `before_policy` was shown its module, and writes `policy/`.

    Returns the updates made, the curve ([updates, mean return] of each evaluation) and the seconds of training.
    """
    stage = Stage(
        name="policy",
        max_epochs=config.trainer.max_epochs,
        at_most=False,
        shown=("evaluation/return", "policy/q1", "policy/alpha", "rollout/penalty"),
    )
    module, data = build_sac(config, dataset), build_data(config, dataset, folder.checkpoints / REFRESHES)
    before_policy(module)
    evaluation = build_evaluation(config, dataset, env_id) if env_id else None
    callbacks: list[L.Callback] = [] if model is None else [build_refresh(config, model, dataset)]
    callbacks += [evaluation] if evaluation else []
    trainer, seconds = fit_stage(
        stage,
        module,
        data,
        callbacks,
        config=config,
        folder=folder,
        watch=watch,
        score=lambda: evaluation.after(module.updates) if evaluation else None,
    )
    module.to("cpu")
    if trainer.is_global_zero:
        meta = {"env_id": env_id, "env_kwargs": dict(environment_arguments(config, dataset))}
        as_policy(module, dataset, meta).save(folder.policy)
    trainer.strategy.barrier()
    return module.updates, evaluation.history if evaluation else [], seconds
