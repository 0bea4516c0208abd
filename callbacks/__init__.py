"""*When* things happen: Lightning callbacks, for `train.py` and for a Trainer of your own.

Imported as `mopo_pl.callbacks` (see docs/architecture.md).
"""

from mopo_pl.callbacks.agreement import RanksAgree
from mopo_pl.callbacks.checkpoints import Checkpoints, Interrupted
from mopo_pl.callbacks.evaluation import PolicyEvaluation
from mopo_pl.callbacks.members import MemberSelection
from mopo_pl.callbacks.progress import StageProgress
from mopo_pl.callbacks.rollouts import RolloutRefresh

__all__ = [
    "Checkpoints",
    "Interrupted",
    "MemberSelection",
    "PolicyEvaluation",
    "RanksAgree",
    "RolloutRefresh",
    "StageProgress",
]
