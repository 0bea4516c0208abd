"""Signs of an entropy, or of its coefficient α, that is far from its intended value."""

from mopo_pl.diagnostics.health.rows import Rows, value_of
from mopo_pl.diagnostics.health.run_facts import RunFacts

ENTROPY_GAP = 0.75
"""Accepted distance of the entropy from its target [nats per action dimension]. Good runs end within 0.2. A log σ that is off
by 0.75 makes the noise of the actions twice or half as large.
"""
ENTROPY_APPROACH = 0.95
"""Ratio of the distance from the target to that `ENTROPY_BACK` epochs ago, below which the entropy counts as approaching its target."""
ENTROPY_BACK = 3
"""Number of epochs over which the approach to the target is measured."""
ENTROPY_LOST = 5.0
"""Distance above which an approaching entropy is reported too [nats per action dimension]: the noise is off by a factor above a hundred."""
ALPHA_AT_LIMIT = 0.999
"""Share of its limit from which α counts as at the limit. α is used clipped, so that it then lies exactly there."""
ALPHA_COLLAPSED = 1e-3
"""Share of the logged rewards' standard deviation below which α has no effect. In good runs it was at least 0.015."""


def entropy_off_target(rows: Rows, facts: RunFacts) -> str | None:
    """Compare the entropy with its target, unless it approaches the target."""
    gaps = [abs(value_of(row, "policy/entropy") - facts.target_entropy) for row in rows[-1 - ENTROPY_BACK :]]
    gap, approaches = gaps[-1] / facts.action_dim, gaps[-1] < ENTROPY_APPROACH * gaps[0]
    if gap <= ENTROPY_GAP or (approaches and gap <= ENTROPY_LOST):
        return None
    entropy = value_of(rows[-1], "policy/entropy")
    pace = "far away still" if approaches else "and it does not come nearer"
    return f"the policy's entropy is {entropy:.3g} nats, its target {facts.target_entropy:.3g}, {pace}"


def alpha_at_limit(rows: Rows, facts: RunFacts) -> str | None:
    """Compare α with `alpha_max`, or with the range of rewards where there is no limit."""
    alpha, limit = value_of(rows[-1], "policy/alpha"), facts.alpha_max
    if limit is None:
        if facts.known_reward or alpha <= facts.reward_range:
            return None
        return f"α is {alpha:.4g}, more than the whole range of the log's rewards ({facts.reward_range:.4g}): the entropy decides"
    # While the entropy is above its target, α has merely not decreased yet.
    if alpha < ALPHA_AT_LIMIT * limit or value_of(rows[-1], "policy/entropy") >= facts.target_entropy:
        return None
    return f"α is at its limit of {limit:.4g}, and the entropy still below its target"


def alpha_collapsed(rows: Rows, facts: RunFacts) -> str | None:
    """Compare α with the standard deviation of the rewards."""
    alpha = value_of(rows[-1], "policy/alpha")
    if facts.known_reward or alpha >= ALPHA_COLLAPSED * facts.reward_std:
        return None
    return f"α fell to {alpha:.2g}, nothing beside rewards that vary by {facts.reward_std:.4g}: the policy no longer tries other actions"
