"""The log that a configuration names, opened and checked."""

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.opening import examine, open_dataset


def open_log(config: Config) -> OfflineDataset:
    """The log that `dataset` names; raises InputError as `open_dataset` does."""
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def examine_log(config: Config) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """The log that `dataset` names, and what the checks say of it; raises InputError as `examine` does."""
    return examine(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)
