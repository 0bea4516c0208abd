"""The log that a configuration names, opened and checked, and the rewards of its rows."""

import torch
from torch import Tensor

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.dynamics.penalised_model import Reward

ROWS = 20_000
"""Rows that a known reward is given at once."""


def open_log(config: Config) -> OfflineDataset:
    """The log that `dataset` names; raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def examine_log(config: Config) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """The log that `dataset` names, and what the checks say of it; raises InputError as `examine` does."""
    return examine(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def rewards_of(dataset: OfflineDataset, reward: Reward | None) -> Tensor:
    """The logged rewards [N]; of a known reward, what it gives for the logged rows."""
    if reward is None:
        return dataset.transitions.rewards
    log = LogStatistics.of(dataset)
    parts = (dataset.transitions[rows] for rows in torch.arange(len(dataset)).split(ROWS))
    with torch.no_grad():
        return torch.cat(
            [
                reward(part.newest_observations, log.in_log_units(part.actions), part.newest_next_observations)
                for part in parts
            ]
        )
