"""What every exported form says of itself: columns, scaling, history, origin, licence."""

from typing import Any

import mopo_pl
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy

TOLERANCE = 1e-4
"""Difference between a form and the policy above which an export is an error, in half the range of an action."""
UNSTATED = "not stated"
"""Licence of weights whose owner has not named one."""


def check_licence(licence: str) -> None:
    """Raise InputError for what is no name of a licence: it stands in files that have a meaning for each line."""
    if not licence.strip() or not licence.isprintable():
        raise InputError(f"--licence {licence!r} must be the name of a licence, in one line: such as MIT or CC-BY-4.0")


def contract_of(policy: Policy, *, distribution: bool, licence: str) -> dict[str, Any]:
    """Plain values for a JSON text.

    `observations` and `actions` hold `names`, `units`, and `low` and `high`, the range in the log (null where unknown).
    An observation is scaled as (o - mean)/std; with a history `mean` and `std` are those of a whole state. An action is
    bound_low + (a + 1)/2 · (bound_high - bound_low) for a in [-1, 1].

    `distribution`: whether μ and log σ are among the outputs. `licence`: of the weights.
    """
    actor, meta = policy.actor, policy.meta
    return {
        "observations": {
            **policy.observations.plain(),
            "mean": actor.normaliser.mean.tolist(),
            "std": actor.normaliser.divisor.tolist(),
        },
        "actions": {
            **policy.actions.plain(),
            "bound_low": policy.action_low.tolist(),
            "bound_high": policy.action_high.tolist(),
        },
        "history": policy.history,
        "distribution": distribution,
        "log_std_min": actor.log_std_min,
        "log_std_max": actor.log_std_max,
        "cloned": bool(meta.get("cloned", False)),
        "env_id": meta.get("env_id"),
        "dataset": meta.get("dataset"),
        "run": meta.get("run"),
        "trained_by": f"mopo_pl {meta.get('mopo_pl', 'before 0.1.0')}",
        "exported_by": f"mopo_pl {mopo_pl.__version__}",
        "licence": licence,
        "tolerance": TOLERANCE,
    }
