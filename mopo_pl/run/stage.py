"""One stage: a LightningModule fitted by a Trainer, from its newest checkpoint where there is one."""

from dataclasses import dataclass

import lightning as L

from mopo_pl.callbacks import Checkpoints
from mopo_pl.callbacks.checkpoints import stage_checkpoints
from mopo_pl.config import Config
from mopo_pl.problems import InputError
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import open_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved, keep_last_row
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer


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
) -> tuple[L.Trainer, float]:
    """Trains to the stage's end; returns the Trainer and the seconds it took, over all resumptions."""
    saving = Checkpoints(
        folder=folder.checkpoints,
        stage=stage.name,
        every_minutes=config.checkpoint.every_minutes,
        signalled=lambda: watch.received,
    )
    metrics = MetricsFile(folder.metrics, stage=stage.name)
    newest = stage_checkpoints(folder.checkpoints, stage.name)[-1:]
    with open_loggers(config, folder, stage.name) as loggers:
        trainer = build_trainer(
            config,
            folder,
            stage=stage.name,
            max_epochs=stage.max_epochs,
            at_most=stage.at_most,
            watch=stage.shown,
            callbacks=[*callbacks, forget_unsaved(metrics), keep_last_row(), saving],
            loggers=[metrics, *loggers],
        )
        if newest and trainer.world_size > 1:
            raise InputError(f"{folder.path} cannot be resumed on several devices yet: their streams are not saved")
        trainer.fit(module, datamodule=data, ckpt_path=str(newest[0]) if newest else None, weights_only=True)
    return trainer, saving.seconds
