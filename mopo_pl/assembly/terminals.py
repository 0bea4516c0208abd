"""Build the DataModule and the LightningModule of the learned termination rule from settings."""

from mopo_pl.config.schema import ClassifierConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.terminals.classifier import TerminalClassifier
from mopo_pl.dynamics.terminals.module import TerminalModule
from mopo_pl.dynamics.terminals.samples import TerminalDataModule
from mopo_pl.nn.random_streams import generator_for


def build_terminal_samples(
    settings: ClassifierConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> TerminalDataModule:
    """Build the DataModule of the classifier of terminal steps. Raises ValueError if there are too few rows of a kind."""
    return TerminalDataModule(
        dataset,
        batch_size=settings.batch_size,
        updates_per_epoch=settings.updates_per_epoch,
        holdout_fraction=settings.holdout_fraction,
        seed=seed,
        on_host=on_host,
    )


def build_terminals(settings: ClassifierConfig, samples: TerminalDataModule, *, seed: int) -> TerminalModule:
    """Build the untrained LightningModule of the classifier of terminal steps, for the rows of `samples`."""
    classifier = TerminalClassifier(
        obs_dim=samples.rows.obs_dim,
        action_dim=samples.rows.action_dim,
        hidden_sizes=settings.hidden_sizes,
        share=samples.share,
        normaliser=samples.normaliser(),
        generator=generator_for(seed, "classifier weights"),
    )
    return TerminalModule(
        classifier,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        schedule_updates=settings.epochs * settings.updates_per_epoch,
    )
