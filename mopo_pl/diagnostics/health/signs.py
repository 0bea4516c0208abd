"""`POLICY_SIGNS`: the signs of trouble of a policy in the metrics rows, each with its level and remedy.

Each sign is a pure function of the rows up to an epoch and of the facts; the rows must have all columns that the sign needs. It returns
a sentence where the last row shows the sign, else None. Each threshold was set on the labelled runs of docs/diagnostics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mopo_pl.data.findings import Level
from mopo_pl.diagnostics.health.critic_signs import critic_loss_grows, q_above_imagined, q_beyond_reach
from mopo_pl.diagnostics.health.entropy_signs import alpha_at_limit, alpha_collapsed, entropy_off_target
from mopo_pl.diagnostics.health.rollout_signs import (
    actions_pinned,
    imagined_above_log,
    imagined_among_best,
    imagined_below_log,
    log_left,
    penalty_grows_along_rollouts,
    penalty_outweighs,
    rollouts_dropped,
    rollouts_ended,
    states_beyond_log,
)
from mopo_pl.diagnostics.health.rows import Rows
from mopo_pl.diagnostics.health.run_facts import RunFacts


@dataclass(frozen=True)
class Sign:
    """One sign of trouble: a check of the metrics rows with its level and remedy."""

    name: str
    """Name of the sign, which stays the same in every version."""
    level: Level
    """Level of the finding."""
    needs: tuple[str, ...]
    """Columns without which a row is not judged."""
    seen: Callable[[Rows, RunFacts], str | None]
    """Function that returns what the last row shows, as a sentence; None where it shows nothing."""
    fix: str
    """Settings that may help."""


LONGER_OR_SCALED = "a larger penalty.coef or a shorter rollout.horizon"

POLICY_SIGNS = (
    Sign(
        "q_beyond_reach",
        "STOP",
        ("policy/q1", "policy/q2", "policy/alpha", "policy/entropy"),
        q_beyond_reach,
        "sac.bound_targets=true, sac.critic_layer_norm=true, sac.normalise_observations=true or a lower sac.critic_lr",
    ),
    Sign(
        "q_above_imagined",
        "WARN",
        ("policy/q1", "policy/q2", "policy/alpha", "policy/entropy", "rollout/reward", "rollout/penalty"),
        q_above_imagined,
        "sac.bound_targets=true, more sac.critics, or a larger rollout.real_ratio",
    ),
    Sign("imagined_above_log", "STOP", ("rollout/reward",), imagined_above_log, LONGER_OR_SCALED),
    Sign("imagined_among_best", "WARN", ("rollout/reward",), imagined_among_best, LONGER_OR_SCALED),
    Sign(
        "imagined_below_log",
        "WARN",
        ("rollout/reward",),
        imagined_below_log,
        "sac.normalise_observations=true, more updates, or a smaller penalty.coef",
    ),
    Sign(
        "critic_loss_grows",
        "WARN",
        ("policy/critic_loss", "policy/q1"),
        critic_loss_grows,
        "a lower sac.critic_lr, sac.critic_layer_norm=true or sac.normalise_observations=true",
    ),
    Sign(
        "entropy_off_target",
        "WARN",
        ("policy/entropy",),
        entropy_off_target,
        "a larger sac.alpha_lr, another sac.alpha_init, or sac.normalise_observations=true",
    ),
    Sign(
        "alpha_at_limit",
        "WARN",
        ("policy/alpha", "policy/entropy"),
        alpha_at_limit,
        "a larger sac.alpha_max for rewards of this size, or a lower sac.target_entropy",
    ),
    Sign(
        "alpha_collapsed",
        "WARN",
        ("policy/alpha",),
        alpha_collapsed,
        "a smaller sac.alpha_lr or a higher sac.target_entropy",
    ),
    Sign(
        "penalty_outweighs",
        "WARN",
        ("rollout/penalty", "rollout/penalty_share"),
        penalty_outweighs,
        "a smaller penalty.coef or penalty.value_coef, or a better ensemble",
    ),
    Sign(
        "penalty_grows_along_rollouts",
        "WARN",
        ("rollout/penalty_first", "rollout/penalty_last"),
        penalty_grows_along_rollouts,
        "a shorter rollout.horizon",
    ),
    Sign("rollouts_dropped", "WARN", ("rollout/dropped_share",), rollouts_dropped, LONGER_OR_SCALED),
    Sign("states_beyond_log", "WARN", ("rollout/beyond_log",), states_beyond_log, LONGER_OR_SCALED),
    Sign("log_left", "WARN", ("rollout/halt_excess",), log_left, LONGER_OR_SCALED),
    Sign(
        "rollouts_ended",
        "WARN",
        ("rollout/terminated", "rollout/length"),
        rollouts_ended,
        "look at termination=, and at the log's terminal rows",
    ),
    Sign(
        "actions_pinned",
        "WARN",
        ("rollout/pinned",),
        actions_pinned,
        "check data.action_low and data.action_high, or a larger sac.target_entropy",
    ),
)
"""Signs of stage 2, the training of the policy."""
