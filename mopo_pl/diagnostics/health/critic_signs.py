"""Signs of trouble in the critics: unreachable values, values above the rewards of rollouts, and a growing loss."""

from statistics import fmean

from mopo_pl.diagnostics.health.rows import Row, Rows, latest, value_of
from mopo_pl.diagnostics.health.run_facts import RunFacts

Q_MARGIN = 0.05
"""Share of the range of reachable values by which Q may lie outside it. No true value lies outside; estimates may, by a small error."""
VALUE_GAP = 1.5
"""Largest accepted excess of Q·(1 - γ) over the reward of an imagined step [standard deviations of the logged rewards].
In good runs it was at most 0.93: rollouts of a few steps from logged states earn less than later steps of the policy, which Q includes.
"""
CRITIC_GROWTH = 3.0
"""Factor by which the critic loss may grow within the last third of the epochs, beyond the growth of Q². Errors grow with the
values themselves. In good runs the factor was at most 1.7.
"""
CRITIC_ROWS = 9
"""Smallest number of epochs that is judged; its last third has three epochs."""


def _entropy_bonus(row: Row, facts: RunFacts) -> float:
    """Return αH, the part of the value that comes from the entropy of an action [reward]; 0 without a soft backup."""
    return value_of(row, "policy/alpha") * value_of(row, "policy/entropy") if facts.soft_backup else 0.0


def q_beyond_reach(rows: Rows, facts: RunFacts) -> str | None:
    """Check for Q above r_max/(1 - γ), or below r_min/(1 - γ) less penalty and entropy."""
    if facts.known_reward:
        return None
    bonus = _entropy_bonus(rows[-1], facts)
    low, high = facts.reachable(penalty=latest(rows, "rollout/penalty"), entropy_bonus=bonus)
    room = Q_MARGIN * facts.reward_range * facts.horizon
    values = [value_of(rows[-1], "policy/q1"), value_of(rows[-1], "policy/q2")]
    if max(values) > high + room:
        return f"Q is {max(values):.4g}, above the {high:.4g} that rewards as large as the log's can add up to (r_max/(1 - γ))"
    if min(values) < low - room:
        return f"Q is {min(values):.4g}, below the {low:.4g} that rewards as small as the log's can add up to (r_min/(1 - γ))"
    return None


def q_above_imagined(rows: Rows, facts: RunFacts) -> str | None:
    """Compare Q·(1 - γ) with the reward of an imagined step, less the penalty of the imagined part of a batch, plus the entropy bonus."""
    if facts.known_reward:  # Q includes logged rewards too, and the accepted gap is measured in their unit
        return None
    row = rows[-1]
    penalty = (1 - facts.real_ratio) * value_of(row, "rollout/penalty")
    earned = value_of(row, "rollout/reward") - penalty + _entropy_bonus(row, facts)
    believed = fmean([value_of(row, "policy/q1"), value_of(row, "policy/q2")]) / facts.horizon
    if believed - earned <= VALUE_GAP * facts.reward_std:
        return None
    return (
        f"Q stands for a reward of {believed:.4g} a step (Q·(1 - γ)), but imagined steps earn {earned:.4g}: the critics "
        "believe in rewards that the rollouts do not find"
    )


def critic_loss_grows(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the critic loss at the end of the last third of the epochs with its beginning, beyond the growth of Q²."""
    if len(rows) < CRITIC_ROWS:
        return None
    third = rows[-(len(rows) // 3) :]
    half = len(third) // 2
    before, after = third[:half], third[-half:]
    loss = [fmean(value_of(row, "policy/critic_loss") for row in part) for part in (before, after)]
    square = [fmean(value_of(row, "policy/q1") ** 2 for row in part) for part in (before, after)]
    if loss[0] <= 0 or loss[1] <= CRITIC_GROWTH * loss[0] * max(1.0, square[1] / max(square[0], 1e-12)):
        return None
    return (
        f"the critic loss grew from {loss[0]:.4g} to {loss[1]:.4g} within the last third of the epochs, faster than Q²"
    )
