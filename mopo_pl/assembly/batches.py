"""Build the DataModules of stage 2, on which a policy is trained, from settings."""

from dataclasses import replace
from pathlib import Path

import torch

from mopo_pl.config.schema import RolloutConfig, SACConfig
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset


def build_batches(
    sac: SACConfig,
    rollout: RolloutConfig,
    dataset: OfflineDataset,
    *,
    seed: int,
    refresh_folder: Path | None = None,
    on_host: bool = False,
) -> OfflineDataModule:
    """Build the DataModule that mixes logged and imagined rows. `refresh_folder` is passed to `OfflineDataModule`."""
    return OfflineDataModule(
        dataset,
        batch_size=sac.batch_size,
        real_ratio=rollout.real_ratio,
        updates_per_epoch=sac.updates_per_epoch,
        updates_per_step=sac.updates_per_step,
        retain=rollout.retain_epochs,
        capacity=rollout.starts * rollout.horizon,
        refresh_folder=refresh_folder,
        seed=seed,
        on_host=on_host,
    )


def build_logged_batches(
    settings: SACConfig, dataset: OfflineDataset, *, seed: int, on_host: bool = False
) -> OfflineDataModule:
    """Build the DataModule of only logged rows, for behaviour cloning.

    Cloning does not use next states, so that rows without a true next state are included.
    """
    return OfflineDataModule(
        replace(dataset, next_known=torch.ones_like(dataset.next_known)),
        batch_size=settings.batch_size,
        real_ratio=1.0,
        updates_per_epoch=settings.updates_per_epoch,
        updates_per_step=settings.updates_per_step,
        retain=1,
        capacity=0,
        refresh_folder=None,
        seed=seed,
        on_host=on_host,
    )
