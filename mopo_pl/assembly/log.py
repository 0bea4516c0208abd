"""The log that a configuration names, opened and checked, and the rewards of its rows."""

from torch import Tensor

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset
from mopo_pl.data.statistics import over_rows
from mopo_pl.dynamics.penalised_model import Reward


def open_log(config: Config) -> OfflineDataset:
    """The log that `dataset` names; raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def examine_log(config: Config) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """The log that `dataset` names, and what the checks say of it; raises InputError as `examine` does."""
    return examine(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def rewards_of(dataset: OfflineDataset, reward: Reward | None) -> Tensor:
    """The logged rewards [N]; of a known reward, what it gives for the logged rows."""
    return dataset.transitions.rewards if reward is None else over_rows(reward, dataset)
