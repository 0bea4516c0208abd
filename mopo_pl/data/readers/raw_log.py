"""`RawLog`: what a file format yields; and what is wrong with its arrays one by one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mopo_pl.data.dataset import ColumnNames

BLOCK = 2**16
"""Rows that are computed with at once, so that large logs take no memory beside their own."""


def blocks(rows: int, size: int | None = None) -> Iterator[slice]:
    """All rows, `size` at a time, else `BLOCK`.

    >>> list(blocks(5, size=2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = size or BLOCK
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, in float64 [D]."""
    rows = max(len(array), 1)
    mean = sum((array[part].sum(0, dtype=np.float64) for part in blocks(len(array))), np.zeros(array.shape[1])) / rows
    squares = sum((((array[part] - mean) ** 2).sum(0) for part in blocks(len(array))), np.zeros(array.shape[1]))
    return mean, np.sqrt(squares / rows).astype(np.float64)


class Unused(NamedTuple):
    """An array of a log that no field took, though it has as many rows."""

    key: str
    shape: tuple[int, ...]
    known: bool
    """Whether its key names a field, which another key took."""


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
    ends: np.ndarray | None = None
    """Rows after which another episode begins or rows are missing [N] bool, None where the file does not say."""
    gaps: np.ndarray | None = None
    """Rows after which rows of the same episode may be missing [N] bool, None where none are."""
    cut: bool = False
    """Whether the first row is not the first one of its episode."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What the file calls each of these fields."""
    names: ColumnNames = field(default_factory=ColumnNames)
    """Of the columns."""
    unused: list[Unused] = field(default_factory=list)
    """Arrays of N rows that no field took."""
    next_missing: bool = False
    """Whether next states are taken from the next row because no key named them."""
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further numbers of the environment at each step, by name [N]; training does not use them."""
    remarks: list[str] = field(default_factory=list)
    """What the reader left out or rearranged, one sentence each."""
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    """Lower and upper action bounds, where the file tells."""

    def key(self, name: str) -> str:
        """What the file calls a field."""
        return self.keys.get(name, name)

    def take(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order."""
        for name, array, _ in fields_of(self):
            if len(array) > rows.max(initial=-1):
                setattr(self, name, array[rows])
        self.infos = {name: array[rows] for name, array in self.infos.items()}


def fields_of(raw: RawLog) -> Iterator[tuple[str, np.ndarray, int]]:
    """Name, array and number of dimensions of each field that is there."""
    yield "observations", raw.observations, 2
    yield "actions", raw.actions, 2
    yield "rewards", raw.rewards, 1
    yield "terminals", raw.terminals, 1
    if raw.timeouts is not None:
        yield "timeouts", raw.timeouts, 1
    if raw.next_observations is not None:
        yield "next_observations", raw.next_observations, 2


def marked_ends(raw: RawLog) -> np.ndarray:
    """Rows that the file marks as the last of an episode, in any way [N] bool."""
    marks = [raw.terminals, *(flags for flags in (raw.timeouts, raw.ends) if flags is not None)]
    return np.logical_or.reduce([np.asarray(flags, bool) for flags in marks])


def squeeze(raw: RawLog) -> None:
    """Drop axes of length 1: a column [N, 1] of rewards or flags, and beside it the one environment of [N, 1, D]."""
    one = raw.rewards.shape[1:] == (1,)
    for name, array, dims in list(fields_of(raw)):
        if array.ndim == dims + 1 and array.shape[1] == 1 and (dims == 1 or one):
            setattr(raw, name, array[:, 0])


def problems_of(raw: RawLog) -> list[str]:
    """What makes the arrays unusable: shapes and types, and where those are right, values that are no numbers."""
    # Values are looked at by what shapes establish.
    return list(_shape_problems(raw)) or list(_value_problems(raw))


def _shape_problems(raw: RawLog) -> Iterator[str]:
    rows = len(raw.observations) if raw.observations.ndim else 0
    if rows == 0:
        yield f"{raw.source}: {raw.key('observations')} has no rows"
        return
    for name, array, dims in fields_of(raw):
        where = f"{raw.source}: {raw.key(name)}"
        if array.dtype.kind not in "fiub":
            yield f"{where} has type {array.dtype}, not numbers"
        elif name == "actions" and array.dtype.kind in "iub":
            yield (
                f"{where} are discrete ({array.dtype}); MOPO needs continuous actions: if these are numbers on a scale, "
                "write them as float32"
            )
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
    for name, array, _ in fields_of(raw):
        bad = np.zeros(len(array), bool)
        for part in blocks(len(array)):
            # Rows are kept as float32, in which what is beyond its range would be inf; NaN compares false.
            wrong = ~(np.abs(array[part]) <= np.finfo(np.float32).max)
            bad[part] = wrong.any(1) if wrong.ndim == 2 else wrong
        if bad.any():
            first = int(bad.argmax())
            yield (
                f"{raw.source}: {raw.key(name)} has NaN, inf or numbers beyond float32 in {int(bad.sum())} rows, "
                f"the first is row {first}; repair them, or remove the rows and mark an end before each gap"
            )
        elif name in ("terminals", "timeouts") and not np.isin(array, (0, 1)).all():
            first = int((~np.isin(array, (0, 1))).argmax())
            yield f"{raw.source}: {raw.key(name)} must be 0 or 1; row {first} is {array[first]}"
