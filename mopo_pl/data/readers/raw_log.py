"""`RawLog`: the arrays that a reader returns, and checks of each array."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mopo_pl.data.dataset import ColumnNames

BLOCK = 2**16
"""Number of rows that computations use at once, so that temporary arrays of large logs stay small."""


def blocks(rows: int, size: int | None = None) -> Iterator[slice]:
    """Return slices of `size` rows each that cover all rows; `size` defaults to `BLOCK`.

    >>> list(blocks(5, size=2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = size or BLOCK
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column, [D] float64."""
    rows = max(len(array), 1)
    mean = sum((array[part].sum(0, dtype=np.float64) for part in blocks(len(array))), np.zeros(array.shape[1])) / rows
    squares = sum((((array[part] - mean) ** 2).sum(0) for part in blocks(len(array))), np.zeros(array.shape[1]))
    return mean, np.sqrt(squares / rows).astype(np.float64)


class Unused(NamedTuple):
    """An array with one row per step that is not used for any field."""

    key: str
    shape: tuple[int, ...]
    known: bool
    """Whether the key is one of the keys of a field, for which another key is used."""


@dataclass(kw_only=True)
class RawLog:
    """Arrays of N rows as a file holds them, with the names that they have in the file."""

    source: str
    """Name of the file or dataset in messages."""
    observations: np.ndarray
    """Observations, [N, D]."""
    actions: np.ndarray
    """Actions, [N, A]."""
    rewards: np.ndarray
    """Rewards, [N]."""
    terminals: np.ndarray
    """Terminal flags, [N] 0 or 1."""
    next_observations: np.ndarray | None = None
    """Next observations, [N, D]; None if the file does not contain them."""
    timeouts: np.ndarray | None = None
    """Flags of time limits, [N] 0 or 1; None if the file does not mark them."""
    ends: np.ndarray | None = None
    """Whether another episode begins or rows are missing after each row, [N] bool; None if the file has no such marks."""
    gaps: np.ndarray | None = None
    """Whether rows of the same episode may be missing after each row, [N] bool; None if no rows are missing."""
    cut: bool = False
    """Whether the first row of the log is not the first row of its episode."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Name of each field in the file."""
    names: ColumnNames = field(default_factory=ColumnNames)
    """Names of the columns."""
    unused: list[Unused] = field(default_factory=list)
    """Arrays of N rows that are not used for any field."""
    next_missing: bool = False
    """Whether next states are taken from the next row because no key for them was found or given."""
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Additional numbers of the environment (infos) at each step, by name, [N]. Training does not use them."""
    remarks: list[str] = field(default_factory=list)
    """Sentences about what the reader left out, rearranged or assumed."""
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    """Lower and upper action bounds, [A] each; None if the file does not contain them."""

    def key(self, name: str) -> str:
        """Return the name of a field in the file."""
        return self.keys.get(name, name)

    def take(self, rows: np.ndarray) -> None:
        """Keep only the rows with these indices, in this order. `ends` and `gaps` are not changed."""
        for name, array, _ in fields_of(self):
            if len(array) > rows.max(initial=-1):
                setattr(self, name, array[rows])
        self.infos = {name: array[rows] for name, array in self.infos.items()}


def fields_of(raw: RawLog) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yield the name, array and required number of dimensions of each field that the log has."""
    yield "observations", raw.observations, 2
    yield "actions", raw.actions, 2
    yield "rewards", raw.rewards, 1
    yield "terminals", raw.terminals, 1
    if raw.timeouts is not None:
        yield "timeouts", raw.timeouts, 1
    if raw.next_observations is not None:
        yield "next_observations", raw.next_observations, 2


def marked_ends(raw: RawLog) -> np.ndarray:
    """Return whether the file marks each row as the last of an episode, by `terminals`, `timeouts` or `ends`, [N] bool."""
    marks = [raw.terminals, *(flags for flags in (raw.timeouts, raw.ends) if flags is not None)]
    return np.logical_or.reduce([np.asarray(flags, bool) for flags in marks])


def squeeze(raw: RawLog) -> None:
    """Drop axes of length 1 in place: of rewards and flags [N, 1], and of states and actions [N, 1, D] if the rewards have such an axis."""
    one = raw.rewards.shape[1:] == (1,)
    for name, array, dims in list(fields_of(raw)):
        if array.ndim == dims + 1 and array.shape[1] == 1 and (dims == 1 or one):
            setattr(raw, name, array[:, 0])


def problems_of(raw: RawLog) -> list[str]:
    """Return messages about wrong shapes and types or, if there are none, about values that are not finite or not 0 or 1 where they must be."""
    # The checks of values rely on correct shapes.
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
            # Rows are stored as float32, in which larger values would become inf. Comparisons with NaN are false.
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
