"""MOPO, model-based offline policy optimisation (Yu et al. 2020), on PyTorch Lightning.

The public names are imported when they are first used, so that importing `Policy` does not import Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mopo_pl.data.batches.policy_batches import OfflineDataModule
    from mopo_pl.data.dataset import OfflineDataset
    from mopo_pl.data.log.opening import open_dataset
    from mopo_pl.data.transitions import Transitions
    from mopo_pl.dynamics.bootstrap import EnsembleDataModule
    from mopo_pl.dynamics.module import DynamicsModule
    from mopo_pl.policy import Policy
    from mopo_pl.sac.module import SACModule

__version__ = "0.1.0"

_HOMES = {
    "DynamicsModule": "mopo_pl.dynamics.module",
    "EnsembleDataModule": "mopo_pl.dynamics.bootstrap",
    "OfflineDataModule": "mopo_pl.data.batches.policy_batches",
    "OfflineDataset": "mopo_pl.data.dataset",
    "Policy": "mopo_pl.policy",
    "SACModule": "mopo_pl.sac.module",
    "Transitions": "mopo_pl.data.transitions",
    "open_dataset": "mopo_pl.data.log.opening",
}

__all__ = [
    "DynamicsModule",
    "EnsembleDataModule",
    "OfflineDataModule",
    "OfflineDataset",
    "Policy",
    "SACModule",
    "Transitions",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
