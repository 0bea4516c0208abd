"""Signs of an ensemble whose training stopped too early, from its metrics rows alone."""

from itertools import pairwise
from statistics import fmean

from mopo_pl.diagnostics.health.rows import Row

CHURN = 0.2
"""Accepted share of the elites that an epoch replaces, averaged over the last `CHURN_EPOCHS`. Finished ensembles were below 0.1."""
CHURN_EPOCHS = 10
"""Number of epochs over which changes of the elites are counted."""
STILL_FALLING = 0.1
"""Accepted relative fall of the members' mean holdout error in the last `FALLING_EPOCHS`. Early stopping allows 0.01 for each epoch."""
FALLING_EPOCHS = 5
"""Number of epochs over which the fall of the holdout error is measured."""


def holdout_errors(row: Row, criterion: str) -> list[float]:
    """Return the holdout error of each member by which elites are chosen (`dynamics.criterion`); empty where the row has none."""
    error = "holdout_geometric" if criterion == "geometric" else "holdout_mse"
    found = {name: value for name, value in row.items() if name.startswith(f"dynamics/{error}_") and value is not None}
    return [found[name] for name in sorted(found, key=lambda name: int(name.rpartition("_")[2]))]


def elite_churn(errors: list[list[float]], elites: int) -> str | None:
    """Check the mean share of the elites that an epoch replaces; elites are the members with the lowest error so far.

    `errors` contains the members' holdout errors of each epoch.
    """
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


def error_still_falls(errors: list[list[float]]) -> str | None:
    """Compare the lowest mean holdout error with the lowest until `FALLING_EPOCHS` before the end. `errors`: as for `elite_churn`."""
    means = [fmean(epoch) for epoch in errors]
    if len(means) <= FALLING_EPOCHS:
        return None
    fall = 1 - min(means) / max(min(means[:-FALLING_EPOCHS]), 1e-300)
    return (
        f"the ensemble's holdout error fell by {fall:.0%} in its last {FALLING_EPOCHS} epochs: it was stopped while it learned"
        if fall > STILL_FALLING
        else None
    )
