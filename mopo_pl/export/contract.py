"""Contract of an exported form: the metadata on columns, scaling, history, origin and licence that every form contains."""

from typing import Any

import mopo_pl
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy

TOLERANCE = 1e-4
"""Largest accepted difference between a form and the policy, in half the range of an action; a larger one is an error."""
UNSTATED = "not stated"
"""Licence of weights whose owner has named none."""


def check_licence(licence: str) -> None:
    """Raise InputError for text that is no name of a licence: it is written to files in which every line has a meaning."""
    if not licence.strip() or not licence.isprintable():
        raise InputError(f"--licence {licence!r} must be the name of a licence, in one line: such as MIT or CC-BY-4.0")


def contract_of(policy: Policy, *, distribution: bool, licence: str) -> dict[str, Any]:
    """Return the contract as plain values for JSON.

    `observations` and `actions` contain `names`, `units`, and `low` and `high`, the range in the log (null where unknown).
    An observation is scaled as (o - mean)/std; with a history, `mean` and `std` are those of a complete state. An action is
    bound_low + (a + 1)/2 · (bound_high - bound_low) for a in [-1, 1].

    `distribution` is set if μ and log σ are among the outputs. `licence` is the licence of the weights.
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
