"""Stage 1: from a log to a trained model on disk."""

from mopo_pl.assembly import build_dynamics, build_samples, build_selection
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.store import save_model
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.stage import Stage, fit_stage


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
