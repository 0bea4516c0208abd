"""Open and check the log that a configuration names, and compute the rewards of its rows."""

from torch import Tensor

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset
from mopo_pl.data.statistics import over_rows
from mopo_pl.dynamics.penalised_model import Reward


def open_log(config: Config) -> OfflineDataset:
    """Open the log that `dataset` names. Raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def examine_log(config: Config) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """Open the log that `dataset` names, and return it with the findings of its checks. Raises InputError as `examine` does."""
    return examine(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def rewards_of(dataset: OfflineDataset, reward: Reward | None) -> Tensor:
    """Return the logged rewards [N], or the values of a known reward function for the logged rows."""
    return dataset.transitions.rewards if reward is None else over_rows(reward, dataset)
