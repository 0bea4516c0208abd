"""Lightning callbacks that decide when things happen during training, for `train.py` and for any other Trainer.

This folder is imported as `mopo_pl.callbacks` (see docs/architecture.md).
"""

from mopo_pl.callbacks.checkpoints import Checkpoints, Interrupted
from mopo_pl.callbacks.member_selection import MemberSelection
from mopo_pl.callbacks.online_steps import OnlineSteps, PolicySnapshots
from mopo_pl.callbacks.policy_evaluation import PolicyEvaluation
from mopo_pl.callbacks.policy_health import PolicyHealth
from mopo_pl.callbacks.progress import StageProgress
from mopo_pl.callbacks.rank_agreement import RanksAgree
from mopo_pl.callbacks.rollout_refresh import RolloutRefresh

__all__ = [
    "Checkpoints",
    "Interrupted",
    "MemberSelection",
    "OnlineSteps",
    "PolicyEvaluation",
    "PolicyHealth",
    "PolicySnapshots",
    "RanksAgree",
    "RolloutRefresh",
    "StageProgress",
]
