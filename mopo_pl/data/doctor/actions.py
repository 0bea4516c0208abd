"""Checks that logged actions lie within their bounds, use their range, and explore."""

from collections.abc import Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some
from mopo_pl.data.doctor.regression import explained
from mopo_pl.data.log.action_bounds import beyond_bounds
from mopo_pl.data.readers.raw_log import moments

ENOUGH = 200
"""Smallest number of rows for checks of shares of the rows."""


def beyond(log: Evidence) -> Iterator[Verdict]:
    """Report actions beyond their bounds, with their number and the range that they reach."""
    where = f"{log.raw.source}: {log.raw.key('actions')}"
    finding = beyond_bounds(log.raw.actions, log.bounds, where, log.raw.names.action, clip=log.clip)
    if finding is not None:
        yield Verdict(finding.level, finding.text, finding.fix)


def saturated(log: Evidence) -> Iterator[Verdict]:
    """Report action columns that are at a bound in more than 95 % of the rows."""
    if log.rows >= ENOUGH and log.at_bounds.any():
        yield Verdict(
            "WARN",
            f"action columns at a bound in more than 95 % of the rows: {_named(log, log.at_bounds)}",
            "make sure of data.action_low and data.action_high",
        )


def narrow(log: Evidence) -> Iterator[Verdict]:
    """Report action columns that use less than 5 % of the range between their bounds."""
    actions = log.dataset.transitions.actions.numpy()
    width = (actions.max(0) - actions.min(0)) / 2
    if log.rows >= ENOUGH and (width < 0.05).any():
        yield Verdict(
            "WARN",
            f"action columns use less than 5 % of their bounds: {_named(log, width < 0.05)}; the log says nothing "
            "about the rest",
            "set data.action_low and data.action_high to what the actions can be",
        )


def one_sided(log: Evidence) -> Iterator[Verdict]:
    """Report action columns of one sign if their bounds are the default of -1 to 1, which neither the file nor an environment gave."""
    low, high = (np.asarray(bound) for bound in log.bounds)
    if (
        log.rows < ENOUGH
        or log.raw.env_id is not None
        or log.raw.bounds is not None
        or (low != -1).any()
        or (high != 1).any()
    ):
        return
    least, largest = log.raw.actions.min(0), log.raw.actions.max(0)
    half = ((least >= 0) & (largest > 0)) | ((largest <= 0) & (least < 0))
    if half.any():
        low, high = np.where(half & (least >= 0), 0, low), np.where(half & (largest <= 0), 0, high)
        ends = [", ".join(f"{value:g}" for value in side) for side in (low, high)]
        yield Verdict(
            "WARN",
            f"action columns have one sign alone, though -1 and 1 stand for their bounds: {_named(log, half)}; the log says nothing of the "
            "other half, where the policy may go",
            f"set 'data.action_low=[{ends[0]}]' 'data.action_high=[{ends[1]}]' if those are the bounds",
        )


def scaled_to_one(log: Evidence) -> Iterator[Verdict]:
    """Report actions that range exactly from -1 to 1, though the bounds of the environment are wider."""
    if log.rows < ENOUGH or log.raw.env_id is None or log.raw.bounds is not None:
        return
    low, high = (np.asarray(bound, np.float64) for bound in log.bounds)
    least, largest = log.raw.actions.min(0), log.raw.actions.max(0)
    wider = (high >= 1.5) & (low <= -1.5)
    if (wider & (np.abs(largest - 1) < 0.01) & (np.abs(least + 1) < 0.01)).all():
        yield Verdict(
            "WARN",
            f"all actions lie between -1 and 1, and reach both, though {log.raw.env_id} takes {low.tolist()} to {high.tolist()}: they look "
            "scaled, as those of a replay buffer of Stable-Baselines3 are",
            "write them in the units of the environment",
        )


def without_exploration(log: Evidence) -> Iterator[Verdict]:
    """Report actions that are a function of the state, as the effect of other actions then cannot be learned."""
    varied = moments(log.raw.actions)[1] > 0
    if log.rows < ENOUGH or not varied.any():
        return
    taken = np.linspace(0, log.rows - 1, min(log.rows, 100 * ENOUGH)).astype(int)
    states = (log.raw.observations[taken].astype(np.float64) - log.moments[0]) / log.spread
    actions = log.raw.actions[taken].astype(np.float64)[:, varied]
    states[:, list(log.echoes)] = 0  # reported by `actions_shifted`
    features = np.tanh(states @ np.random.default_rng(0).standard_normal((states.shape[1], 64)))
    if explained(np.concatenate([states, features], 1), actions).min() > 0.999:
        yield Verdict(
            "WARN",
            "actions are a function of the state: without exploration the log does not tell what another action does",
            "log with noise on the actions",
        )


def whole_numbers(log: Evidence) -> Iterator[Verdict]:
    """Report action columns whose values look like numbers of discrete choices, except those that `saturated` reports."""
    if log.rows < ENOUGH:
        return
    choices = np.zeros(log.raw.actions.shape[1], bool)
    for column, values in enumerate(log.raw.actions.T):
        few = 1 < len(np.unique(values[: 100 * ENOUGH])) <= 20
        choices[column] = few and not log.at_bounds[column] and (values == np.round(values)).all()
    if choices.any():
        chosen = log.raw.actions[:, choices]
        which = "every action is" if choices.all() else f"{_named(log, choices)} always has"
        leave = "" if choices.all() else ": leave such a column out, or take it as a state"
        yield Verdict(
            "WARN",
            f"{which} a whole number as its value, from {chosen.min():g} to {chosen.max():g}: MOPO takes them for points on a scale",
            f"do not use MOPO where they number choices{leave}",
        )


def _named(log: Evidence, which: np.ndarray) -> str:
    return some([log.dataset.names.action(int(column)) for column in np.flatnonzero(which)])
