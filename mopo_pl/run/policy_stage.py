"""Stage 2: from a log and a model to a policy on disk."""

from collections.abc import Callable

import lightning as L

from mopo_pl.assembly import as_policy, build_data, build_evaluation, build_refresh, build_sac, environment_arguments
from mopo_pl.checkpoint_files import REFRESHES
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.stage import Stage, fit_stage
from mopo_pl.sac.module import SACModule


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
