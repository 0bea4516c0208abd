"""Signs of an entropy, or of its coefficient α, that is not where it should be."""

from mopo_pl.diagnostics.health.rows import Rows, value_of
from mopo_pl.diagnostics.health.run_facts import RunFacts

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


def entropy_off_target(rows: Rows, facts: RunFacts) -> str | None:
    """The entropy against its target, unless it is on its way there."""
    gaps = [abs(value_of(row, "policy/entropy") - facts.target_entropy) for row in rows[-1 - ENTROPY_BACK :]]
    gap, approaches = gaps[-1] / facts.action_dim, gaps[-1] < ENTROPY_APPROACH * gaps[0]
    if gap <= ENTROPY_GAP or (approaches and gap <= ENTROPY_LOST):
        return None
    entropy = value_of(rows[-1], "policy/entropy")
    pace = "far away still" if approaches else "and it does not come nearer"
    return f"the policy's entropy is {entropy:.3g} nats, its target {facts.target_entropy:.3g}, {pace}"


def alpha_at_limit(rows: Rows, facts: RunFacts) -> str | None:
    """α against `alpha_max`, or against the range of rewards where there is no limit."""
    alpha, limit = value_of(rows[-1], "policy/alpha"), facts.alpha_max
    if limit is None:
        if facts.known_reward or alpha <= facts.reward_range:
            return None
        return f"α is {alpha:.4g}, more than the whole range of the log's rewards ({facts.reward_range:.4g}): the entropy decides"
    # While the entropy is above its target α only has not fallen yet.
    if alpha < ALPHA_AT_LIMIT * limit or value_of(rows[-1], "policy/entropy") >= facts.target_entropy:
        return None
    return f"α is at its limit of {limit:.4g}, and the entropy still below its target"


def alpha_collapsed(rows: Rows, facts: RunFacts) -> str | None:
    """α against the scale of the rewards."""
    alpha = value_of(rows[-1], "policy/alpha")
    if facts.known_reward or alpha >= ALPHA_COLLAPSED * facts.reward_std:
        return None
    return f"α fell to {alpha:.2g}, nothing beside rewards that vary by {facts.reward_std:.4g}: the policy no longer tries other actions"
