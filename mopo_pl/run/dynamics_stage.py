"""Stage 1: from a log to a trained model on disk."""

from mopo_pl.callbacks import Checkpoints, MemberSelection
from mopo_pl.callbacks.checkpoints import checkpoints
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.samples import EnsembleDataModule
from mopo_pl.dynamics.store import save_model
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.loggers import build_loggers
from mopo_pl.run.metrics_file import MetricsFile, forget_unsaved
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import build_trainer
from mopo_pl.streams import stream

STAGE = "dynamics"


def build_samples(config: Config, dataset: OfflineDataset) -> EnsembleDataModule:
    """The rows each member sees."""
    settings = config.dynamics
    return EnsembleDataModule(
        dataset,
        members=settings.members,
        batch_size=settings.batch_size,
        holdout_fraction=settings.holdout_fraction,
        holdout_max=settings.holdout_max,
        seed=config.seed,
    )


def build_module(config: Config, dataset: OfflineDataset, samples: EnsembleDataModule) -> DynamicsModule:
    """LightningModule 1, untrained."""
    settings = config.dynamics
    ensemble = GaussianEnsemble(
        obs_dim=dataset.obs_dim,
        action_dim=dataset.action_dim,
        members=settings.members,
        hidden_sizes=settings.hidden_sizes,
        normaliser=samples.normaliser(),
        generator=stream(config.seed, "ensemble weights"),
    )
    return DynamicsModule(
        ensemble,
        elites=settings.elites,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        bound_coef=settings.bound_coef,
    )


def train_dynamics(config: Config, dataset: OfflineDataset, folder: RunFolder, watch: SignalWatch) -> None:
    """Fits the ensemble, from the newest checkpoint where there is one, and writes `dynamics.*`."""
    samples = build_samples(config, dataset)
    module = build_module(config, dataset, samples)
    selection = MemberSelection(patience=config.dynamics.patience, improvement=config.dynamics.improvement)
    saving = Checkpoints(
        folder=folder.checkpoints,
        stage=STAGE,
        every_minutes=config.checkpoint.every_minutes,
        signalled=lambda: watch.received,
    )
    metrics = MetricsFile(folder.metrics, stage=STAGE)
    trainer = build_trainer(
        config,
        folder,
        stage=STAGE,
        max_epochs=config.dynamics.max_epochs,
        at_most=True,
        watch=("dynamics/train_loss", "dynamics/holdout_mse_0"),
        callbacks=[selection, forget_unsaved(metrics), saving],
        loggers=[metrics, *build_loggers(config.logger, folder, STAGE)],
    )
    newest = checkpoints(folder.checkpoints, STAGE)[-1:]
    trainer.fit(module, datamodule=samples, ckpt_path=str(newest[0]) if newest else None)
    model = module.model().to("cpu")
    if trainer.is_global_zero:
        best = [] if selection.best is None else selection.best.tolist()
        facts = {"holdout_mse": best, "epochs": selection.epochs, "seconds": saving.seconds, "dataset": dataset.hash}
        save_model(model, folder.path, facts)
    trainer.strategy.barrier()
