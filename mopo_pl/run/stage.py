"""One stage: a LightningModule fitted by a Trainer, from its newest checkpoint where there is one."""

from collections.abc import Callable
from dataclasses import dataclass

import lightning as L

from mopo_pl.callbacks import Checkpoints, RanksAgree
from mopo_pl.checkpoint_files import CheckpointFiles
from mopo_pl.config import Config
from mopo_pl.messages import say
from mopo_pl.problems import PeerLost
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import open_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer

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
