"""Signs of trouble in rollouts: their rewards, penalties, states, ends and actions compared with those of the log."""

from mopo_pl.diagnostics.health.rows import Rows, value_of
from mopo_pl.diagnostics.health.run_facts import RunFacts

BELOW_LOG = 0.25
"""Accepted distance of the mean imagined reward below the mean logged reward [standard deviations of the logged rewards]. A policy that
lowers the reward in the model that it was trained in is no improvement. In good runs the distance was at most 0.01.
"""
PENALTY_OUTWEIGHS = 1.0
"""Ratio of the penalty to the mean |r| of imagined or logged rewards, whichever is larger, above which the penalty decides what
is learned. In good runs it was at most 0.7.
"""
PENALTY_GROWTH = 5.0
"""Accepted ratio of the mean cost of a rollout's last steps to that of its first steps. In good runs it was at most 2."""
PENALTY_SMALL = 0.01
"""Share of the log's mean |r| below which the cost of a last step is too small to be judged."""
DROPPED = 0.05
"""Accepted share of rollouts that leave the range of the log or are not finite. Good runs: below 0.001; at `rollout.max_dropped` a run ends."""
BEYOND_LOG = 0.5
"""Accepted share of imagined steps that lead outside the range of the log's observations; above it most steps are extrapolated.
Good runs: 0.01 (pendulum), 0.05 (Hopper), 0.35 (Walker, 17 columns).
"""
HALT_EXCESS = 5.0
"""Accepted ratio of the share of imagined steps beyond the log to the intended share (`Halt.share`). In good runs it was at most 1."""
ENDED_FACTOR = 3.0
"""Accepted ratio of the shares of imagined and of logged steps that end an episode. Good policies fall less often than the log."""
ENDED_LEAST = 0.01
"""Share of imagined steps that end an episode up to which `ENDED_FACTOR` is not applied."""
PINNED_SHARE = 0.8
"""Share of action entries at a bound above which the policy counts as pinned to its bounds."""
PINNED_ABOVE_LOG = 0.3
"""Excess of that share over the log's that is required too, because good actions are extreme in some tasks (Walker's log: 0.48)."""


def imagined_above_log(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the mean imagined reward with the largest one in the log."""
    reward = value_of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, more than the largest reward in the log ({facts.reward_high:.4g}): the "
        "policy exploits an error of the model"
    )


def imagined_among_best(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the mean imagined reward with the best hundredth of the log."""
    reward = value_of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_top or reward > facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, as much as the best 1 % of logged steps ({facts.reward_top:.4g} or more): "
        "few rows support it"
    )


def imagined_below_log(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the mean imagined reward with that of the log."""
    reward, least = value_of(rows[-1], "rollout/reward"), facts.reward_mean - BELOW_LOG * facts.reward_std
    if facts.known_reward or reward >= least:
        return None
    return f"imagined steps earn {reward:.4g} on average, less than logged ones ({facts.reward_mean:.4g}): nothing was gained"


def penalty_outweighs(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the mean penalty with the mean |r| of imagined or logged steps, whichever is larger; with a known r, of imagined steps alone."""
    penalty, share = value_of(rows[-1], "rollout/penalty"), value_of(rows[-1], "rollout/penalty_share")
    size = max(0.0 if facts.known_reward else facts.reward_size, penalty / share if share > 0 else 0.0)
    if penalty <= PENALTY_OUTWEIGHS * size:
        return None
    return f"the penalty takes {penalty:.4g} a step, more than the rewards are worth ({size:.4g}): the task is hidden behind it"


def penalty_grows_along_rollouts(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the mean cost of the h-th steps with that of the first, as a proxy for the growth of the model's error."""
    first, last = value_of(rows[-1], "rollout/penalty_first"), value_of(rows[-1], "rollout/penalty_last")
    if facts.known_reward or last <= PENALTY_SMALL * facts.reward_size or last <= PENALTY_GROWTH * first:
        return None
    return f"the penalty of a rollout's last steps is {last:.4g}, of its first {first:.4g}: the model is lost by then"


def rollouts_dropped(rows: Rows, facts: RunFacts) -> str | None:
    """Check the share of rollouts that left the log's range or became not finite."""
    share = value_of(rows[-1], "rollout/dropped_share")
    return f"{share:.0%} of the rollouts left the range of the log, or are no numbers" if share > DROPPED else None


def states_beyond_log(rows: Rows, facts: RunFacts) -> str | None:
    """Check the share of imagined steps to states outside the log's range, whether or not the penalty covers them."""
    share = value_of(rows[-1], "rollout/beyond_log")
    return f"{share:.0%} of imagined steps lead to states outside the range of the log" if share > BEYOND_LOG else None


def log_left(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the share of imagined steps that leave the log's range, and so end the episode, with the allowed share."""
    excess = value_of(rows[-1], "rollout/halt_excess")
    if excess <= HALT_EXCESS:
        return None
    return f"imagined steps leave the range of the log {excess:.0f} times as often as they may, at whatever price"


def rollouts_ended(rows: Rows, facts: RunFacts) -> str | None:
    """Compare how often imagined steps end an episode with how often logged ones do."""
    ended = value_of(rows[-1], "rollout/terminated") / max(value_of(rows[-1], "rollout/length"), 1.0)
    if ended <= ENDED_LEAST or ended <= ENDED_FACTOR * facts.terminal_share:
        return None
    return f"{ended:.1%} of imagined steps end the episode, of logged ones {facts.terminal_share:.1%}"


def actions_pinned(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the share of entries of imagined actions at a bound with the log's."""
    share = value_of(rows[-1], "rollout/pinned")
    if share <= PINNED_SHARE or share <= facts.pinned_share + PINNED_ABOVE_LOG:
        return None
    return f"{share:.0%} of the policy's actions are at their bounds, of logged ones {facts.pinned_share:.0%}"
