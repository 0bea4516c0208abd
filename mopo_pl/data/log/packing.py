"""`assemble`, the only function that makes an `OfflineDataset` from a `RawLog`, and its parts."""

import hashlib

import numpy as np
import torch

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.action_bounds import Bounds, beyond_bounds, bounds_problem, scaled
from mopo_pl.data.readers.raw_log import RawLog, blocks, marked_ends, moments, problems_of, squeeze
from mopo_pl.data.transitions import Transitions
from mopo_pl.errors import InputError

SAME = 1e-3
"""Largest distance between a next state and the next row's state that counts as rounding, in standard deviations of a column."""


def assemble(
    raw: RawLog,
    *,
    name: str,
    bounds: Bounds,
    time_limit: int | None,
    clip_actions: bool,
    drop_time_limits: bool = False,
) -> OfflineDataset:
    """Check the arrays of a log, pack them, and return the dataset.

    Raises InputError with all problems: wrong shapes or lengths, discrete actions, NaN or inf, actions out of bounds, no usable row.

    Args:
        raw: The arrays, whose axes of length 1 are dropped in place.
        name: Name of the dataset.
        bounds: Lower and upper action bounds, which are scaled to -1 and +1.
        time_limit: Number of steps after which an episode ends, or None.
        clip_actions: Whether actions beyond the bounds are clipped rather than refused.
        drop_time_limits: Whether the next states of rows at time limits count as unknown, so that neither training stage uses these rows.

    """
    squeeze(raw)
    problems = problems_of(raw)
    where = f"{raw.source}: {raw.key('actions')}"
    if not problems and (wrong := bounds_problem(raw.actions, bounds, where)) is not None:
        problems = [wrong]
    if problems:
        raise InputError(problems)
    beyond = None if clip_actions else beyond_bounds(raw.actions, bounds, where, raw.names.action, clip=False)
    if beyond is not None:
        raise InputError(str(beyond))
    rows = np.empty((len(raw.rewards), Transitions.width(raw.observations.shape[1], raw.actions.shape[1])), np.float32)
    ends = _episode_ends(raw, time_limit)
    known = _next_known(raw, ends)
    if drop_time_limits:
        known &= ~_limited(raw, ends, time_limit)
    if not (known | np.asarray(raw.terminals, bool)).any():
        raise InputError(f"{raw.source}: no row has a known next observation or is terminal; add next_observations")
    _fill(rows, raw, ends, bounds)
    packed = torch.from_numpy(rows)
    return OfflineDataset(
        name=name,
        hash=_hash(rows, ends),
        transitions=Transitions(packed, raw.observations.shape[1], raw.actions.shape[1]),
        episode_ends=torch.from_numpy(ends),
        finished=torch.from_numpy(_finished(raw, ends, time_limit)),
        next_known=torch.from_numpy(known),
        action_low=bounds[0].astype(np.float32),
        action_high=bounds[1].astype(np.float32),
        env_id=raw.env_id,
        env_kwargs=dict(raw.env_kwargs),
        names=raw.names,
    )


def keep_last(raw: RawLog, rows: int, time_limit: int | None) -> None:
    """Keep only the last `rows` rows of a log without problems. Episodes end in the same rows as in the complete log."""
    left_out = len(raw.rewards) - rows
    if left_out <= 0:
        return
    ends = _episode_ends(raw, time_limit)
    raw.cut = left_out not in ends
    if time_limit is not None:
        # If steps were counted from the first row that is kept, the limits would fall on other rows.
        limits = np.zeros(len(raw.rewards), bool) if raw.ends is None else raw.ends.copy()
        limits[ends[:-1] - 1] = True
        raw.ends = limits
    raw.take(np.arange(left_out, len(raw.rewards)))
    raw.ends = None if raw.ends is None else raw.ends[left_out:]
    raw.gaps = None if raw.gaps is None else raw.gaps[left_out:]


def goes_on(raw: RawLog) -> np.ndarray:
    """Return whether the next state of each row is the next row's state up to rounding, [N - 1] bool. The log must have `next_observations`."""
    assert raw.next_observations is not None
    following, states = raw.next_observations[:-1], raw.observations[1:]
    spread, same = moments(raw.observations)[1], np.empty(len(states), bool)
    for part in blocks(len(states)):
        later = states[part].astype(np.float64)
        tolerance = SAME * spread + 1e-6 * np.abs(later)
        same[part] = (np.abs(following[part] - later) <= tolerance).all(1)
    return same


def _episode_ends(raw: RawLog, time_limit: int | None) -> np.ndarray:
    """Return the index after the last row of each episode, [K].

    An episode ends at a mark of the file, where the next state is not the next row's state, at the time limit, and at the end of the log.
    """
    last = marked_ends(raw)
    if raw.next_observations is not None:
        breaks = ~goes_on(raw)
        # If most next states differ from the next row's state, the rows are out of order, and the marks of the file are more reliable.
        if (raw.timeouts is None and raw.ends is None) or 2 * breaks.sum() <= len(breaks):
            last[:-1] |= breaks
    last[-1] = True
    ends = np.flatnonzero(last) + 1
    if time_limit is None:
        return ends
    starts = np.concatenate([[0], ends[:-1]])
    cuts = [np.append(np.arange(s + time_limit, e, time_limit), e) for s, e in zip(starts, ends, strict=True)]
    return np.concatenate(cuts)


def _finished(raw: RawLog, ends: np.ndarray, time_limit: int | None) -> np.ndarray:
    """Return whether each episode is complete, [K] bool.

    Incomplete are episodes next to a gap, a first episode without its first row, and a last episode that is cut by the end of the file.
    """
    finished = np.ones(len(ends), bool)
    finished[0] = not raw.cut
    start = ends[-2] if len(ends) > 1 else 0
    if raw.gaps is not None:
        before = raw.gaps[ends - 1]
        finished &= ~before
        finished[1:] &= ~before[:-1]
    finished[-1] &= marked_ends(raw)[-1] or (time_limit is not None and ends[-1] - start == time_limit)
    return finished


def _next_known(raw: RawLog, ends: np.ndarray) -> np.ndarray:
    known = np.ones(len(raw.rewards), bool)
    if raw.next_observations is None:
        known[ends - 1] = False
    return known


def _limited(raw: RawLog, ends: np.ndarray, time_limit: int | None) -> np.ndarray:
    """Return whether each row is the last before a time limit, [N] bool."""
    limited = np.zeros(len(raw.rewards), bool) if raw.timeouts is None else np.array(raw.timeouts, bool)
    if time_limit is not None:
        limited[ends[np.diff(ends, prepend=0) == time_limit] - 1] = True
    return limited


def _fill(rows: np.ndarray, raw: RawLog, ends: np.ndarray, bounds: Bounds) -> None:
    """Write the fields into the packed array `rows`.

    If the file has no next observations, they are taken from the next row. At the end of an episode they are unknown, and the observation of
    the row itself is the placeholder. The critic does not use it in a terminal row, and the dynamics model is not trained on it (`next_known`).
    """
    dim, stop = raw.observations.shape[1], raw.observations.shape[1] + raw.actions.shape[1]
    rows[:, :dim] = raw.observations
    for part in blocks(len(rows)):
        rows[part, dim:stop] = scaled(raw.actions[part], bounds).clip(-1, 1)
    if raw.next_observations is not None:
        rows[:, stop:-2] = raw.next_observations
    else:
        rows[:-1, stop:-2] = raw.observations[1:]
        rows[ends - 1, stop:-2] = raw.observations[ends - 1]
    rows[:, -2] = raw.rewards
    rows[:, -1] = raw.terminals


def _hash(rows: np.ndarray, ends: np.ndarray) -> str:
    digest = hashlib.sha256(rows.data)
    digest.update(ends.astype(np.int64).data)
    return digest.hexdigest()
