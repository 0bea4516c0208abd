"""The signs by which a run's metrics rows show that its policy, or its ensemble, is in trouble.

Each sign is a pure function of the rows up to an epoch, which have all columns it needs, and of the facts: it returns a
sentence where it is seen in the last row, else None. Each threshold was set on the labelled runs of docs/diagnostics.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from mopo_pl.data.findings import Level
from mopo_pl.diagnostics.health.run_facts import RunFacts

Row = Mapping[str, float | None]
"""One epoch's metrics, as in metrics.jsonl."""
Rows = Sequence[Row]

Q_MARGIN = 0.05
"""Share of the range of reachable values by which Q may lie outside it. No true value does; the critics' error may, a little."""
VALUE_GAP = 1.5
"""Standard deviations of the logged rewards by which Q·(1 - γ) may exceed what an imagined step earns. In good runs it was at
most 0.93: rollouts of a few steps from logged states earn less than the policy later does, which Q includes.
"""
BELOW_LOG = 0.25
"""Standard deviations of the logged rewards by which imagined rewards may lie below their mean. A policy that lowers the
reward in its own model is no improvement; in good runs the imagined reward was never more than 0.01 below.
"""
CRITIC_GROWTH = 3.0
"""Factor by which the critic loss may grow within the last third of the epochs, beyond the growth of Q². Errors grow with the
values themselves; in good runs the factor was at most 1.7.
"""
CRITIC_ROWS = 9
"""Epochs from which the last third has three."""
ENTROPY_GAP = 0.75
"""Nats per action dimension by which the entropy may differ from its target. Good runs end within 0.2; a log σ off by 0.75
makes the actions' noise twice as large, or half.
"""
ENTROPY_APPROACH = 0.95
"""An entropy whose distance from its target is below this share of what it was `ENTROPY_BACK` epochs ago is on its way."""
ENTROPY_BACK = 3
"""Epochs."""
ENTROPY_LOST = 5.0
"""Nats per action dimension from which being on the way is no excuse: the noise is a hundredth of what it should be."""
ALPHA_AT_LIMIT = 0.999
"""Share of its limit from which α counts as at it: it is used clipped, so that it lies there exactly."""
ALPHA_COLLAPSED = 1e-3
"""Share of the logged rewards' standard deviation below which α no longer has an effect. Good runs: from 0.015 on."""
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
ENDED_FACTOR = 3.0
"""Factor by which imagined steps may end episodes more often than logged ones. Good policies fall less often than the log."""
ENDED_LEAST = 0.01
"""Share of imagined steps that end an episode below which the factor is not asked for: one in a hundred steps."""
PINNED_SHARE = 0.8
"""Share of entries of actions at a bound from which the policy counts as pinned to them."""
PINNED_ABOVE_LOG = 0.3
"""By how much that share must exceed the log's: there are tasks whose good actions are extreme (Walker's log: 0.48)."""
CHURN = 0.2
"""Share of the elites replaced per epoch, over the last `CHURN_EPOCHS`. Finished ensembles: below 0.1."""
CHURN_EPOCHS = 10
"""Epochs over which changes of the elites are counted."""
STILL_FALLING = 0.1
"""Relative fall of the members' mean holdout error in the last `FALLING_EPOCHS`. Early stopping allows 0.01 of each."""
FALLING_EPOCHS = 5
"""Epochs."""


@dataclass(frozen=True)
class Sign:
    """One check of a run."""

    name: str
    """The same in every version."""
    level: Level
    """Of the finding, where it is seen."""
    needs: tuple[str, ...]
    """Columns without which a row says nothing about it."""
    seen: Callable[[Rows, RunFacts], str | None]
    """What is seen in the last row, as a sentence; None: nothing."""
    fix: str
    """Which setting to turn."""


def _of(row: Row, name: str) -> float:
    value = row[name]
    assert value is not None
    return value


def _latest(rows: Rows, name: str) -> float:
    """The newest value of a column that not every row has; 0 where there is none."""
    return next((value for row in reversed(rows) if (value := row.get(name)) is not None), 0.0)


def _entropy_bonus(row: Row, facts: RunFacts) -> float:
    """αH: what the entropy of an action adds to the value [reward]."""
    return _of(row, "policy/alpha") * _of(row, "policy/entropy") if facts.soft_backup else 0.0


def q_beyond_reach(rows: Rows, facts: RunFacts) -> str | None:
    """Q above r_max/(1 - γ), or below r_min/(1 - γ) less penalty and entropy."""
    if facts.known_reward:
        return None
    bonus = _entropy_bonus(rows[-1], facts)
    low, high = facts.reachable(penalty=_latest(rows, "rollout/penalty"), entropy_bonus=bonus)
    room = Q_MARGIN * facts.reward_range * facts.horizon
    values = [_of(rows[-1], "policy/q1"), _of(rows[-1], "policy/q2")]
    if max(values) > high + room:
        return f"Q is {max(values):.4g}, above the {high:.4g} that rewards as large as the log's can add up to (r_max/(1 - γ))"
    if min(values) < low - room:
        return f"Q is {min(values):.4g}, below the {low:.4g} that rewards as small as the log's can add up to (r_min/(1 - γ))"
    return None


def q_above_imagined(rows: Rows, facts: RunFacts) -> str | None:
    """Q·(1 - γ) against the reward of an imagined step, less the penalty of the imagined part of a batch, with the entropy."""
    if facts.known_reward:  # Q is of the logged rewards too, and the gap that counts is in their unit
        return None
    row = rows[-1]
    penalty = (1 - facts.real_ratio) * _of(row, "rollout/penalty")
    earned = _of(row, "rollout/reward") - penalty + _entropy_bonus(row, facts)
    believed = fmean([_of(row, "policy/q1"), _of(row, "policy/q2")]) / facts.horizon
    if believed - earned <= VALUE_GAP * facts.reward_std:
        return None
    return (
        f"Q stands for a reward of {believed:.4g} a step (Q·(1 - γ)), but imagined steps earn {earned:.4g}: the critics "
        "believe in rewards that the rollouts do not find"
    )


def imagined_above_log(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against the largest one in the log."""
    reward = _of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, more than the largest reward in the log ({facts.reward_high:.4g}): the "
        "policy exploits an error of the model"
    )


def imagined_among_best(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against the best hundredth of the log."""
    reward = _of(rows[-1], "rollout/reward")
    if facts.known_reward or reward <= facts.reward_top or reward > facts.reward_high:
        return None
    return (
        f"imagined steps earn {reward:.4g} on average, as much as the best 1 % of logged steps ({facts.reward_top:.4g} or more): "
        "few rows support it"
    )


def imagined_below_log(rows: Rows, facts: RunFacts) -> str | None:
    """The mean imagined reward against that of the log."""
    reward, least = _of(rows[-1], "rollout/reward"), facts.reward_mean - BELOW_LOG * facts.reward_std
    if facts.known_reward or reward >= least:
        return None
    return f"imagined steps earn {reward:.4g} on average, less than logged ones ({facts.reward_mean:.4g}): nothing was gained"


def critic_loss_grows(rows: Rows, facts: RunFacts) -> str | None:
    """The critic loss at the end of the last third of the epochs against its beginning, beyond the growth of Q²."""
    if len(rows) < CRITIC_ROWS:
        return None
    third = rows[-(len(rows) // 3) :]
    half = len(third) // 2
    before, after = third[:half], third[-half:]
    loss = [fmean(_of(row, "policy/critic_loss") for row in part) for part in (before, after)]
    square = [fmean(_of(row, "policy/q1") ** 2 for row in part) for part in (before, after)]
    if loss[0] <= 0 or loss[1] <= CRITIC_GROWTH * loss[0] * max(1.0, square[1] / max(square[0], 1e-12)):
        return None
    return (
        f"the critic loss grew from {loss[0]:.4g} to {loss[1]:.4g} within the last third of the epochs, faster than Q²"
    )


def entropy_off_target(rows: Rows, facts: RunFacts) -> str | None:
    """The entropy against its target, unless it is on its way there."""
    gaps = [abs(_of(row, "policy/entropy") - facts.target_entropy) for row in rows[-1 - ENTROPY_BACK :]]
    gap, approaches = gaps[-1] / facts.action_dim, gaps[-1] < ENTROPY_APPROACH * gaps[0]
    if gap <= ENTROPY_GAP or (approaches and gap <= ENTROPY_LOST):
        return None
    entropy = _of(rows[-1], "policy/entropy")
    pace = "far away still" if approaches else "and it does not come nearer"
    return f"the policy's entropy is {entropy:.3g} nats, its target {facts.target_entropy:.3g}, {pace}"


def alpha_at_limit(rows: Rows, facts: RunFacts) -> str | None:
    """α against `alpha_max`, or against the range of rewards where there is no limit."""
    alpha, limit = _of(rows[-1], "policy/alpha"), facts.alpha_max
    if limit is None:
        if facts.known_reward or alpha <= facts.reward_range:
            return None
        return f"α is {alpha:.4g}, more than the whole range of the log's rewards ({facts.reward_range:.4g}): the entropy decides"
    # While the entropy is above its target α only has not fallen yet.
    if alpha < ALPHA_AT_LIMIT * limit or _of(rows[-1], "policy/entropy") >= facts.target_entropy:
        return None
    return f"α is at its limit of {limit:.4g}, and the entropy still below its target"


def alpha_collapsed(rows: Rows, facts: RunFacts) -> str | None:
    """α against the scale of the rewards."""
    alpha = _of(rows[-1], "policy/alpha")
    if facts.known_reward or alpha >= ALPHA_COLLAPSED * facts.reward_std:
        return None
    return f"α fell to {alpha:.2g}, nothing beside rewards that vary by {facts.reward_std:.4g}: the policy no longer tries other actions"


def penalty_outweighs(rows: Rows, facts: RunFacts) -> str | None:
    """The mean penalty against the mean |r| of imagined and of logged steps, whichever is larger; of imagined ones of a known r."""
    penalty, share = _of(rows[-1], "rollout/penalty"), _of(rows[-1], "rollout/penalty_share")
    size = max(0.0 if facts.known_reward else facts.reward_size, penalty / share if share > 0 else 0.0)
    if penalty <= PENALTY_OUTWEIGHS * size:
        return None
    return f"the penalty takes {penalty:.4g} a step, more than the rewards are worth ({size:.4g}): the task is hidden behind it"


def penalty_grows_along_rollouts(rows: Rows, facts: RunFacts) -> str | None:
    """The mean cost of the h-th steps against that of the first: a stand-in for the model's error at h."""
    first, last = _of(rows[-1], "rollout/penalty_first"), _of(rows[-1], "rollout/penalty_last")
    if facts.known_reward or last <= PENALTY_SMALL * facts.reward_size or last <= PENALTY_GROWTH * first:
        return None
    return f"the penalty of a rollout's last steps is {last:.4g}, of its first {first:.4g}: the model is lost by then"


def rollouts_dropped(rows: Rows, facts: RunFacts) -> str | None:
    """The share of rollouts that left the log's range or became no numbers."""
    share = _of(rows[-1], "rollout/dropped_share")
    return f"{share:.0%} of the rollouts left the range of the log, or are no numbers" if share > DROPPED else None


def states_beyond_log(rows: Rows, facts: RunFacts) -> str | None:
    """The share of imagined steps to states outside the log's range, whether the penalty sees it or not."""
    share = _of(rows[-1], "rollout/beyond_log")
    return f"{share:.0%} of imagined steps lead to states outside the range of the log" if share > BEYOND_LOG else None


def rollouts_ended(rows: Rows, facts: RunFacts) -> str | None:
    """How often imagined steps end an episode against how often logged ones do."""
    ended = _of(rows[-1], "rollout/terminated") / max(_of(rows[-1], "rollout/length"), 1.0)
    if ended <= ENDED_LEAST or ended <= ENDED_FACTOR * facts.terminal_share:
        return None
    return f"{ended:.1%} of imagined steps end the episode, of logged ones {facts.terminal_share:.1%}"


def actions_pinned(rows: Rows, facts: RunFacts) -> str | None:
    """The share of entries of imagined actions at a bound against the log's."""
    share = _of(rows[-1], "rollout/pinned")
    if share <= PINNED_SHARE or share <= facts.pinned_share + PINNED_ABOVE_LOG:
        return None
    return f"{share:.0%} of the policy's actions are at their bounds, of logged ones {facts.pinned_share:.0%}"


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
"""The signs of stage 2."""


def holdout_errors(row: Row) -> list[float]:
    """Holdout error of each member, by number; empty where the row has none."""
    names = [f"dynamics/holdout_mse_{member}" for member in range(len(row))]
    return [value for name in names if (value := row.get(name)) is not None]


def elite_churn(rows: Rows, elites: int) -> str | None:
    """The share of the elites that an epoch replaces, elites being the members with the lowest error so far."""
    errors = [holdout_errors(row) for row in rows]
    best, chosen = [float("inf")] * len(errors[0]), list[set[int]]()
    for epoch in errors:
        best = [min(pair) for pair in zip(best, epoch, strict=True)]
        chosen.append(set(sorted(range(len(best)), key=best.__getitem__)[:elites]))
    chosen = chosen[-1 - CHURN_EPOCHS :]
    if len(chosen) <= CHURN_EPOCHS:
        return None
    churn = fmean(len(old - new) / elites for old, new in pairwise(chosen))
    return (
        f"each of the last epochs replaced {churn:.0%} of the elites: which members are best is not settled"
        if churn > CHURN
        else None
    )


def error_still_falls(rows: Rows) -> str | None:
    """The best mean holdout error against the best until some epochs before the end."""
    means = [fmean(holdout_errors(row)) for row in rows]
    if len(means) <= FALLING_EPOCHS:
        return None
    fall = 1 - min(means) / max(min(means[:-FALLING_EPOCHS]), 1e-300)
    return (
        f"the ensemble's holdout error fell by {fall:.0%} in its last {FALLING_EPOCHS} epochs: it was stopped while it learned"
        if fall > STILL_FALLING
        else None
    )
