"""Scaling of logged actions from their bounds to [-1, 1], and checks of the bounds."""

from collections.abc import Callable

import numpy as np

from mopo_pl.data.findings import Finding
from mopo_pl.data.readers.names import shown
from mopo_pl.data.readers.raw_log import blocks

NAME = "actions-beyond-bounds"
"""Name of the check and of its findings."""
TOLERANCE = 1e-4
"""Largest overshoot of an action that is attributed to rounding, as a share of half the range."""
SMALL = 0.05
"""Largest overshoot that may be noise or rounding, for which messages suggest clipping, as a share of half the range."""

MOST = 4
"""Largest number of columns that a message names."""
LISTED = 8
"""Largest number of columns for which a message shows bounds as command line arguments."""

Bounds = tuple[np.ndarray, np.ndarray]


def bounds_problem(actions: np.ndarray, bounds: Bounds, where: str) -> str | None:
    """Return a message if the bounds have a wrong dimension, are not ascending, or are not finite in float32; else None.

    `where` is how the message names the actions.
    """
    low, high = bounds
    if low.shape != (actions.shape[1],) or high.shape != low.shape:
        return f"{where} have {actions.shape[1]} dimensions, the bounds {low.size} and {high.size}"
    with np.errstate(over="ignore"):
        kept = low.astype(np.float32), high.astype(np.float32)
    if not (np.isfinite(kept).all() and (kept[0] < kept[1]).all()):
        return (
            f"{where}: the bounds {low.tolist()} to {high.tolist()} are not finite and ascending; "
            "set data.action_low and data.action_high"
        )
    return None


def scaled(actions: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Return 2(a - low)/(high - low) - 1, [N, A] float32."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    return (2 * (actions - low) / (high - low) - 1).astype(np.float32)


def beyond_bounds(
    actions: np.ndarray, bounds: Bounds, where: str, names: Callable[[int], str], *, clip: bool
) -> Finding | None:
    """Return a finding for actions beyond their bounds, or None if there are none.

    The level is STOP, or WARN where clipping is on and changes at most half of the rows by more than `SMALL`.

    Args:
        actions: Actions in the log's units, [N, A].
        bounds: Lower and upper bounds, which are scaled to -1 and +1.
        where: How messages name the actions.
        names: Function from the number of a column to its name.
        clip: Whether actions beyond their bounds are clipped (`data.clip_actions`).

    """
    overshoot = np.empty(len(actions), np.float32)
    beyond = np.zeros(actions.shape[1], bool)
    for part in blocks(len(actions)):
        over = np.abs(scaled(actions[part], bounds)) - 1
        overshoot[part] = over.max(1)
        beyond |= (over > TOLERANCE).any(0)
    outside = overshoot > TOLERANCE
    if not outside.any():
        return None
    name, row, count, rows = NAME, int(outside.argmax()), int(outside.sum()), len(actions)
    large = int((overshoot > SMALL).sum())
    reach = _reach(actions, bounds, beyond, names)
    if clip and 2 * large <= rows:
        return Finding("WARN", name, f"{where}: {count} of {rows} rows are clipped: {reach}")
    fix = f"set {_example(actions, bounds, beyond)}, or what full actions are"
    if clip:
        return Finding("STOP", name, f"{where}: data.clip_actions would change {large} of {rows} rows: {reach}", fix)
    return Finding(
        "STOP",
        name,
        f"{where}: {count} of {rows} rows lie outside the bounds of the actions, the first is row {row}: {reach}",
        fix + ("" if large else "; data.clip_actions=true cuts them off"),
    )


def _reach(actions: np.ndarray, bounds: Bounds, beyond: np.ndarray, names: Callable[[int], str]) -> str:
    """Return a text with the range and the bounds of each column that goes beyond its bounds."""
    columns = [int(column) for column in np.flatnonzero(beyond)]
    parts = [
        f"{shown(names(i))} reaches from {actions[:, i].min():.6g} to {actions[:, i].max():.6g}, its bounds are "
        f"{bounds[0][i]:.6g} to {bounds[1][i]:.6g}"
        for i in columns[:MOST]
    ]
    more = len(columns) - MOST
    return "; ".join(parts) + (f"; and {more} more columns" if more > 0 else "")


def _example(actions: np.ndarray, bounds: Bounds, beyond: np.ndarray) -> str:
    """Return command line arguments that set bounds within which the log lies."""
    if len(beyond) > LISTED:
        return "data.action_low and data.action_high"
    ends = []
    for column, (low, high) in enumerate(zip(*bounds, strict=True)):
        least, greatest = float(actions[:, column].min()), float(actions[:, column].max())
        if not beyond[column]:
            ends.append((low, high))
        elif least < greatest:
            ends.append((least, greatest))
        else:
            ends.append((min(low, least), max(high, greatest)))
    low, high = (", ".join(f"{value:.6g}" for value in side) for side in zip(*ends, strict=True))
    return f"'data.action_low=[{low}]' 'data.action_high=[{high}]'"
