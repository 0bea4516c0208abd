"""Stage 2: from a log and a model to a policy on disk."""

import lightning as L

from mopo_pl.assembly import as_policy, build_data, build_evaluation, build_refresh, build_sac, environment_arguments
from mopo_pl.callbacks import Checkpoints
from mopo_pl.callbacks.checkpoints import checkpoints
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import open_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved, keep_last_row
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer

STAGE = "policy"


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
    module = build_sac(config, dataset)
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
    callbacks += [forget_unsaved(metrics), keep_last_row(), saving]
    newest = checkpoints(folder.checkpoints, STAGE)[-1:]
    data = build_data(config, dataset)
    with open_loggers(config, folder, STAGE) as loggers:
        trainer = build_trainer(
            config,
            folder,
            stage=STAGE,
            max_epochs=config.trainer.max_epochs,
            at_most=False,
            watch=("evaluation/return", "policy/q1", "policy/alpha", "rollout/penalty"),
            callbacks=callbacks,
            loggers=[metrics, *loggers],
        )
        trainer.fit(module, datamodule=data, ckpt_path=str(newest[0]) if newest else None, weights_only=True)
    module.to("cpu")
    if trainer.is_global_zero:
        meta = {"env_id": env_id, "env_kwargs": dict(environment_arguments(config, dataset))}
        as_policy(module, dataset, meta).save(folder.policy)
    trainer.strategy.barrier()
    return module.updates, evaluation.history if evaluation else [], saving.seconds
