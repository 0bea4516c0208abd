"""Build the objects of stage 1 from settings: the ensemble's DataModule, its LightningModule, and the selection of its members."""

from mopo_pl.callbacks import MemberSelection
from mopo_pl.config.schema import DynamicsConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.nn.layers import Normaliser, normal_
from mopo_pl.nn.random_streams import generator_for


def build_samples(
    settings: DynamicsConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> EnsembleDataModule:
    """Build the DataModule with the bootstrap sample of each member. With `on_host` the log stays in the host's memory."""
    return EnsembleDataModule(
        dataset,
        members=settings.members,
        batch_size=settings.batch_size,
        updates_per_step=settings.updates_per_step,
        holdout_fraction=settings.holdout_fraction,
        holdout_max=settings.holdout_max,
        seed=seed,
        on_host=on_host,
    )


def build_dynamics(
    settings: DynamicsConfig, samples: EnsembleDataModule, *, seed: int, compile: bool
) -> DynamicsModule:
    """Build the untrained LightningModule of the ensemble, for the rows of `samples`."""
    log = samples.log_rows
    raw = Normaliser.identity(1 + log.newest_dim)
    ensemble = GaussianEnsemble(
        obs_dim=log.obs_dim,
        action_dim=log.action_dim,
        members=settings.members,
        hidden_sizes=settings.hidden_sizes,
        normaliser=samples.normaliser(),
        target_normaliser=samples.target_normaliser() if settings.normalise_targets else raw,
        generator=generator_for(seed, "ensemble weights"),
        newest_dim=None if log.history == 1 else log.newest_dim,
    )
    if not settings.truncated_init:
        generator = generator_for(seed, "ensemble weights")
        for layer in ensemble.layers:
            normal_(layer, generator)
    return DynamicsModule(
        ensemble,
        elites=settings.elites,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        bound_coef=settings.bound_coef,
        beta=settings.beta,
        huber_delta=settings.huber_delta,
        compile=compile,
    )


def build_selection(settings: DynamicsConfig) -> MemberSelection:
    """Build the callback that stops the ensemble's training, restores each member's best weights and selects the elites."""
    return MemberSelection(
        patience=settings.patience, improvement=settings.improvement, geometric=settings.criterion == "geometric"
    )
