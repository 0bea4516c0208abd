"""Signs of rollouts that teach the wrong thing: their rewards, penalties, states, ends and actions beside those of the log."""

from mopo_pl.diagnostics.health.rows import Rows, value_of
from mopo_pl.diagnostics.health.run_facts import RunFacts

BELOW_LOG = 0.25
"""Standard deviations of the logged rewards by which imagined rewards may lie below their mean. A policy that lowers the
reward in its own model is no improvement; in good runs the imagined reward was never more than 0.01 below.
"""
PENALTY_OUTWEIGHS = 1.0
"""Penalty in units of the mean |r|, of imagined or logged rewards, whichever is larger, above which the penalty decides what
is learned. Good runs: at most 0.7.
"""
PENALTY_GROWTH = 5.0
"""Factor between the mean cost of a rollout's last steps and of its first. In good runs it was at most 2."""
PENALTY_SMALL = 0.01
"""Share of the log's mean |r| below which the cost of a last step says nothing."""
DROPPED = 0.05
"""Share of rollouts that leave the range of the log or are no numbers. Good runs: below 0.001; at `rollout.max_dropped` a run ends."""
BEYOND_LOG = 0.5
"""Share of imagined steps that lead outside the range of the log's observations: most of them are extrapolated. Good runs:
0.01 (pendulum), 0.05 (Hopper), 0.35 (Walker, 17 columns).
"""
HALT_EXCESS = 5.0
"""Steps beyond the log, as a multiple of the share of imagined steps that may be (`Halt.share`). Good runs: at most 1."""
ENDED_FACTOR = 3.0
"""Factor by which imagined steps may end episodes more often than logged ones. Good policies fall less often than the log."""
ENDED_LEAST = 0.01
"""Share of imagined steps that end an episode below which the factor is not asked for: one in a hundred steps."""
PINNED_SHARE = 0.8
"""Share of entries of actions at a bound from which the policy counts as pinned to them."""
PINNED_ABOVE_LOG = 0.3
"""By how much that share must exceed the log's: there are tasks whose good actions are extreme (Walker's log: 0.48)."""


def imagined_above_log(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against the largest one in the log."""
    reward = value_of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, more than the largest reward in the log ({facts.reward_high:.4g}): the "
        "policy exploits an error of the model"
    )


def imagined_among_best(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against the best hundredth of the log."""
    reward = value_of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_top or reward > facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, as much as the best 1 % of logged steps ({facts.reward_top:.4g} or more): "
        "few rows support it"
    )


def imagined_below_log(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against that of the log."""
    reward, least = value_of(rows[-1], "rollout/reward"), facts.reward_mean - BELOW_LOG * facts.reward_std
    if facts.known_reward or reward >= least:
        return None
    return f"imagined steps earn {reward:.4g} on average, less than logged ones ({facts.reward_mean:.4g}): nothing was gained"


def penalty_outweighs(rows: Rows, facts: RunFacts) -> str | None:
    """The mean penalty against the mean |r| of imagined and of logged steps, whichever is larger; of imagined ones of a known r."""
    penalty, share = value_of(rows[-1], "rollout/penalty"), value_of(rows[-1], "rollout/penalty_share")
    size = max(0.0 if facts.known_reward else facts.reward_size, penalty / share if share > 0 else 0.0)
    if penalty <= PENALTY_OUTWEIGHS * size:
        return None
    return f"the penalty takes {penalty:.4g} a step, more than the rewards are worth ({size:.4g}): the task is hidden behind it"


def penalty_grows_along_rollouts(rows: Rows, facts: RunFacts) -> str | None:
    """The mean cost of the h-th steps against that of the first: a stand-in for the model's error at h."""
    first, last = value_of(rows[-1], "rollout/penalty_first"), value_of(rows[-1], "rollout/penalty_last")
    if facts.known_reward or last <= PENALTY_SMALL * facts.reward_size or last <= PENALTY_GROWTH * first:
        return None
    return f"the penalty of a rollout's last steps is {last:.4g}, of its first {first:.4g}: the model is lost by then"


def rollouts_dropped(rows: Rows, facts: RunFacts) -> str | None:
    """The share of rollouts that left the log's range or became no numbers."""
    share = value_of(rows[-1], "rollout/dropped_share")
    return f"{share:.0%} of the rollouts left the range of the log, or are no numbers" if share > DROPPED else None


def states_beyond_log(rows: Rows, facts: RunFacts) -> str | None:
    """The share of imagined steps to states outside the log's range, whether the penalty sees it or not."""
    share = value_of(rows[-1], "rollout/beyond_log")
    return f"{share:.0%} of imagined steps lead to states outside the range of the log" if share > BEYOND_LOG else None


def log_left(rows: Rows, facts: RunFacts) -> str | None:
    """The share of imagined steps that end where the log's range ends, against the share that is allowed."""
    excess = value_of(rows[-1], "rollout/halt_excess")
    if excess <= HALT_EXCESS:
        return None
    return f"imagined steps leave the range of the log {excess:.0f} times as often as they may, at whatever price"


def rollouts_ended(rows: Rows, facts: RunFacts) -> str | None:
    """How often imagined steps end an episode against how often logged ones do."""
    ended = value_of(rows[-1], "rollout/terminated") / max(value_of(rows[-1], "rollout/length"), 1.0)
    if ended <= ENDED_LEAST or ended <= ENDED_FACTOR * facts.terminal_share:
        return None
    return f"{ended:.1%} of imagined steps end the episode, of logged ones {facts.terminal_share:.1%}"


def actions_pinned(rows: Rows, facts: RunFacts) -> str | None:
    """The share of entries of imagined actions at a bound against the log's."""
    share = value_of(rows[-1], "rollout/pinned")
    if share <= PINNED_SHARE or share <= facts.pinned_share + PINNED_ABOVE_LOG:
        return None
    return f"{share:.0%} of the policy's actions are at their bounds, of logged ones {facts.pinned_share:.0%}"
