"""`RawLog`: what a file format yields; and the one place that checks it and makes an `OfflineDataset` of it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.errors import InputError

TOLERANCE = 1e-4
"""Share of the range by which rounding may carry an action over its bounds."""


@dataclass(kw_only=True)
class RawLog:
    """Arrays of N rows as a file holds them, under the names the file calls them by."""

    source: str
    """File or dataset, as errors call it."""
    observations: np.ndarray
    """[N, D]."""
    actions: np.ndarray
    """[N, A]."""
    rewards: np.ndarray
    """[N]."""
    terminals: np.ndarray
    """[N] 0 or 1."""
    next_observations: np.ndarray | None = None
    """[N, D], None where the file does not say what followed."""
    timeouts: np.ndarray | None = None
    """[N] 0 or 1, None where the file does not mark time limits."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What the file calls each of these fields."""
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    """Lower and upper action bounds, where the file tells."""

    def key(self, name: str) -> str:
        """What the file calls a field."""
        return self.keys.get(name, name)


def assemble(
    raw: RawLog, *, name: str, bounds: tuple[np.ndarray, np.ndarray], time_limit: int | None, clip_actions: bool
) -> OfflineDataset:
    """Checks everything and packs it; `bounds` are those that -1 and +1 stand for.

    Raises InputError with all that is wrong: shapes, lengths, discrete actions, NaN and inf, actions out of bounds.
    """
    _squeeze(raw)
    # Later checks index by what earlier ones establish, so that each group reports alone.
    for check in (_shape_problems, _value_problems):
        problems = list(check(raw))
        if problems:
            raise InputError(problems)
    rows = np.empty((len(raw.rewards), Transitions.width(raw.observations.shape[1], raw.actions.shape[1])), np.float32)
    ends = _episode_ends(raw, time_limit)
    known = _next_known(raw, ends)
    if not (known | np.asarray(raw.terminals, bool)).any():
        raise InputError(f"{raw.source}: what followed is not known of any row; add next_observations")
    _fill(rows, raw, ends, _scaled(raw, bounds, clip_actions))
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
    )


def _squeeze(raw: RawLog) -> None:
    """A column [N, 1] of rewards or flags is a list of numbers."""
    for name in ("rewards", "terminals", "timeouts"):
        value = getattr(raw, name)
        if value is not None and value.ndim == 2 and value.shape[1] == 1:
            setattr(raw, name, value[:, 0])


def _fields(raw: RawLog) -> Iterator[tuple[str, np.ndarray, int]]:
    """Name, array and number of dimensions of each field that is there."""
    yield "observations", raw.observations, 2
    yield "actions", raw.actions, 2
    yield "rewards", raw.rewards, 1
    yield "terminals", raw.terminals, 1
    if raw.timeouts is not None:
        yield "timeouts", raw.timeouts, 1
    if raw.next_observations is not None:
        yield "next_observations", raw.next_observations, 2


def _shape_problems(raw: RawLog) -> Iterator[str]:
    rows = len(raw.observations) if raw.observations.ndim else 0
    if rows == 0:
        yield f"{raw.source}: {raw.key('observations')} has no rows"
        return
    for name, array, dims in _fields(raw):
        where = f"{raw.source}: {raw.key(name)}"
        if array.dtype.kind not in "fiub":
            yield f"{where} has type {array.dtype}, not numbers"
        elif name == "actions" and array.dtype.kind in "iub":
            yield f"{where} are discrete ({array.dtype}); MOPO needs continuous actions"
        elif array.ndim != dims:
            yield f"{where} has shape {array.shape}; it must have {dims} dimension{'s' if dims > 1 else ''}"
        elif len(array) != rows:
            yield f"{where} has {len(array)} rows, {raw.key('observations')} has {rows}"
        elif 0 in array.shape:
            yield f"{where} has no columns"
    following = raw.next_observations
    if following is not None and following.ndim == raw.observations.ndim == 2:
        columns, expected = following.shape[1], raw.observations.shape[1]
        if columns != expected:
            yield (
                f"{raw.source}: {raw.key('next_observations')} has {columns} columns, "
                f"{raw.key('observations')} has {expected}"
            )


def _value_problems(raw: RawLog) -> Iterator[str]:
    for name, array, _ in _fields(raw):
        # Rows are kept as float32, in which what is beyond its range would be inf; NaN compares false.
        bad = ~(np.abs(array) <= np.finfo(np.float32).max)
        bad = bad.any(1) if bad.ndim == 2 else bad
        if bad.any():
            first = int(bad.argmax())
            yield (
                f"{raw.source}: {raw.key(name)} has NaN, inf or numbers beyond float32 in {int(bad.sum())} rows, "
                f"the first is row {first}; remove or repair them"
            )
        elif name in ("terminals", "timeouts") and not np.isin(array, (0, 1)).all():
            first = int((~np.isin(array, (0, 1))).argmax())
            yield f"{raw.source}: {raw.key(name)} must be 0 or 1; row {first} is {array[first]}"


def _scaled(raw: RawLog, bounds: tuple[np.ndarray, np.ndarray], clip: bool) -> np.ndarray:
    """2(a - low)/(high - low) - 1 [N, A]."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    where = f"{raw.source}: {raw.key('actions')}"
    if low.shape != (raw.actions.shape[1],) or high.shape != low.shape:
        raise InputError(f"{where} have {raw.actions.shape[1]} dimensions, the bounds {low.size} and {high.size}")
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise InputError(
            f"{where}: the bounds {low.tolist()} to {high.tolist()} are not finite and ascending; "
            "set data.action_low and data.action_high"
        )
    scaled = (2 * (raw.actions - low) / (high - low) - 1).astype(np.float32)
    outside = (np.abs(scaled) > 1 + TOLERANCE).any(1)
    if outside.any() and not clip:
        row = int(outside.argmax())
        raise InputError(
            f"{where} lie outside their bounds {low.tolist()} to {high.tolist()} in {int(outside.sum())} rows, the first "
            f"is row {row}: {raw.actions[row].tolist()}; they reach from {raw.actions.min(0).tolist()} to "
            f"{raw.actions.max(0).tolist()}: set data.action_low and data.action_high, or "
            "data.clip_actions=true"
        )
    return scaled.clip(-1, 1)


def _episode_ends(raw: RawLog, time_limit: int | None) -> np.ndarray:
    """Ends at terminals, at time limits, where the next state is not the following row's, and at the end of the file."""
    last = np.asarray(raw.terminals, bool).copy()
    if raw.timeouts is not None:
        last |= np.asarray(raw.timeouts, bool)
    elif raw.next_observations is not None:
        last[:-1] |= (raw.next_observations[:-1] != raw.observations[1:]).any(1)
    last[-1] = True
    ends = np.flatnonzero(last) + 1
    if time_limit is None or raw.timeouts is not None:
        return ends
    starts = np.concatenate([[0], ends[:-1]])
    cuts = [np.append(np.arange(s + time_limit, e, time_limit), e) for s, e in zip(starts, ends, strict=True)]
    return np.concatenate(cuts)


def _finished(raw: RawLog, ends: np.ndarray, time_limit: int | None) -> np.ndarray:
    """All episodes but a last one that is neither terminal nor at a limit: the file was cut there."""
    finished = np.ones(len(ends), bool)
    start = ends[-2] if len(ends) > 1 else 0
    marked = bool(raw.terminals[-1]) or (raw.timeouts is not None and bool(raw.timeouts[-1]))
    finished[-1] = marked or (time_limit is not None and ends[-1] - start == time_limit)
    return finished


def _next_known(raw: RawLog, ends: np.ndarray) -> np.ndarray:
    known = np.ones(len(raw.rewards), bool)
    if raw.next_observations is None:
        known[ends - 1] = False
    return known


def _fill(rows: np.ndarray, raw: RawLog, ends: np.ndarray, actions: np.ndarray) -> None:
    """Writes column block by column block into the one packed array.

    Where the file does not tell what followed, the next row does; at an episode's end nothing does, and the row's own
    observation stands in. With terminal 1 no critic looks at it, and no model is trained on it (`next_known`).
    """
    dim, stop = raw.observations.shape[1], raw.observations.shape[1] + raw.actions.shape[1]
    rows[:, :dim] = raw.observations
    rows[:, dim:stop] = actions
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
