"""Logged actions and the bounds that -1 and +1 stand for."""

import numpy as np

from mopo_pl.data.findings import Finding
from mopo_pl.data.readers.raw_log import blocks

TOLERANCE = 1e-4
"""Share of half the range by which rounding may carry an action over its bounds."""
SMALL = 0.05
"""Overshoot that may be noise or rounding, for which clipping is offered [half the range]."""

Bounds = tuple[np.ndarray, np.ndarray]


def bounds_problem(actions: np.ndarray, bounds: Bounds, where: str) -> str | None:
    """What is wrong with the bounds themselves: another dimension, no interval, beyond float32."""
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
    """2(a - low)/(high - low) - 1 [N, A]."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    return (2 * (actions - low) / (high - low) - 1).astype(np.float32)


def beyond_bounds(actions: np.ndarray, bounds: Bounds, where: str, *, clip: bool) -> Finding | None:
    """STOP for actions beyond their bounds; where the user has them clipped, what that does to them."""
    overshoot = np.empty(len(actions), np.float32)
    for part in blocks(len(actions)):
        overshoot[part] = (np.abs(scaled(actions[part], bounds)) - 1).max(1)
    outside = overshoot > TOLERANCE
    if not outside.any():
        return None
    name, row, count = "actions-beyond-bounds", int(outside.argmax()), int(outside.sum())
    most, large = float(overshoot.max()), int((overshoot > SMALL).sum())
    low, high = (bound.tolist() for bound in bounds)
    by = f"by up to {most:.3g} of half their range"
    if clip and 2 * large <= len(actions):
        return Finding("WARN", name, f"{where} are clipped in {count} of {len(actions)} rows, {by}")
    if clip:
        return Finding(
            "STOP",
            name,
            f"{where}: data.clip_actions would change {large} of {len(actions)} rows, {by}",
            "set data.action_low and data.action_high to what the actions reach",
        )
    return Finding(
        "STOP",
        name,
        f"{where} lie outside their bounds {low} to {high} in {count} rows, the first is row {row}: "
        f"{actions[row].tolist()}; they reach from {actions.min(0).tolist()} to {actions.max(0).tolist()}, {by}",
        "set data.action_low and data.action_high" + ("" if large else ", or data.clip_actions=true"),
    )
