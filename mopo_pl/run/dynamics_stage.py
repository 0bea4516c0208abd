"""Stage 1: from a log to a trained model on disk."""

from mopo_pl.assembly import build_dynamics, build_samples, build_selection
from mopo_pl.callbacks import Checkpoints
from mopo_pl.callbacks.checkpoints import checkpoints
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.store import save_model
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import open_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved, keep_last_row
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer

STAGE = "dynamics"


def train_dynamics(config: Config, dataset: OfflineDataset, folder: RunFolder, watch: SignalWatch) -> None:
    """Fits the ensemble, from the newest checkpoint where there is one, and writes `dynamics.*`."""
    samples = build_samples(config, dataset)
    module = build_dynamics(config, dataset, samples)
    selection = build_selection(config)
    saving = Checkpoints(
        folder=folder.checkpoints,
        stage=STAGE,
        every_minutes=config.checkpoint.every_minutes,
        signalled=lambda: watch.received,
    )
    metrics = MetricsFile(folder.metrics, stage=STAGE)
    newest = checkpoints(folder.checkpoints, STAGE)[-1:]
    with open_loggers(config, folder, STAGE) as loggers:
        trainer = build_trainer(
            config,
            folder,
            stage=STAGE,
            max_epochs=config.dynamics.max_epochs,
            at_most=True,
            watch=("dynamics/train_loss", "dynamics/holdout_mse_0"),
            callbacks=[selection, forget_unsaved(metrics), keep_last_row(), saving],
            loggers=[metrics, *loggers],
        )
        trainer.fit(module, datamodule=samples, ckpt_path=str(newest[0]) if newest else None, weights_only=True)
    model = module.model().to("cpu")
    if trainer.is_global_zero:
        best = [] if selection.best is None else selection.best.tolist()
        facts = {"holdout_mse": best, "epochs": selection.epochs, "seconds": saving.seconds, "dataset": dataset.hash}
        save_model(model, folder.path, facts)
    trainer.strategy.barrier()
