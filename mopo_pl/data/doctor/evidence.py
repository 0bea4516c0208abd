"""`Evidence`: the data that all checks read, with values that several checks need."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Level
from mopo_pl.data.log.action_bounds import TOLERANCE, Bounds, scaled
from mopo_pl.data.log.packing import goes_on
from mopo_pl.data.readers.raw_log import RawLog, blocks, marked_ends, moments

ENOUGH = 20
"""Smallest number of rows for checks of shares of the rows."""
LOOKED_AT = 20_000
"""Largest number of rows, evenly spaced, that are used to compare columns."""
ECHO = 0.05
"""Standard deviation of the difference of a column and an action, below which the column is a measurement of the action, in standard deviations of
the action."""
NEAR = 2**12
"""Number of rows that are processed at once, so that they stay in the cache of the processor while their columns are read."""


class Verdict(NamedTuple):
    """A finding without the name of its check."""

    level: Level
    text: str
    fix: str


class Shift(NamedTuple):
    """A shift of the next states by one row."""

    direction: str
    """`late` if the next states are those of one row too late, or `early`."""
    rows: int
    """Number of rows with shifted next states."""
    moving: int
    """Number of rows inside episodes after which the state changes."""


@dataclass(frozen=True)
class Evidence:
    """A log as the file holds it and as it is used for training, with values that several checks need."""

    raw: RawLog
    dataset: OfflineDataset
    bounds: Bounds
    """Lower and upper bounds of the actions, which are scaled to -1 and +1."""
    clip: bool
    """Whether actions beyond the bounds are clipped (`data.clip_actions`)."""
    state_bounds: Bounds | None = None
    """Lower and upper bounds of the environment's states, [D] each, infinite where it has none; None without an environment."""

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.raw.rewards)

    def values(self, column: int) -> np.ndarray:
        """Return an observation column, [N] float64."""
        return self.raw.observations[:, column].astype(np.float64)

    def inputs(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name and values [N] float64 of each column of states and actions."""
        for number in range(self.raw.observations.shape[1]):
            yield self.column(number), self.values(number)
        for number in range(self.raw.actions.shape[1]):
            yield self.dataset.names.action(number), self.raw.actions[:, number].astype(np.float64)

    def steps(self, column: int) -> np.ndarray:
        """Return the differences of an observation column from row to row inside episodes, float64."""
        return np.diff(self.values(column))[self.inside]

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each observation column, [D] each."""
        return moments(self.raw.observations)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of each observation column, [D]; 1 for a constant column."""
        spread = self.moments[1]
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def moving(self) -> np.ndarray:
        """Whether each row is not marked as the last of an episode and is followed by a different state, [N - 1] bool."""
        return ~marked_ends(self.raw)[:-1] & ~alike(self.raw.observations[1:], self.raw.observations[:-1])

    @cached_property
    def shift(self) -> Shift | None:
        """Shift of the next states in most of the moving rows; None if there is no shift or no array of next states."""
        following, states = self.raw.next_observations, self.raw.observations
        if following is None or self.rows < ENOUGH or 2 * self.goes_on.sum() > self.rows:
            return None
        moving = self.moving[:-1]
        for direction, same in (
            ("late", alike(following[:-2], states[2:])),
            ("early", alike(following[1:-1], states[:-2])),
        ):
            count = int((same & moving).sum())
            if 2 * count > moving.sum():
                return Shift(direction, count, int(moving.sum()))
        return None

    @cached_property
    def echoes(self) -> dict[int, int]:
        """Observation columns that equal an action of the same rows up to noise: number of the column to number of the action.

        Excluded are columns that are about as close to the action of the row before, such as a measured position that follows the action.
        """
        rows = evenly(np.flatnonzero(self.inside) + 1, LOOKED_AT)
        if len(rows) < ENOUGH:
            return {}
        states = self.raw.observations[rows].astype(np.float64)
        now, before = (self.raw.actions[at].astype(np.float64) for at in (rows, rows - 1))
        spread, found = now.std(0), {}
        for column, values in enumerate(states.T):
            apart, from_before = ((values[:, None] - actions).std(0) for actions in (now, before))
            nearest = int((apart - ECHO * spread).argmin())
            if apart[nearest] < ECHO * spread[nearest] and 2 * apart[nearest] < from_before[nearest]:
                found[column] = nearest
        return found

    @cached_property
    def at_bounds(self) -> np.ndarray:
        """Whether each action column is at a bound in more than 95 % of the rows, [A] bool."""
        count = np.zeros(self.raw.actions.shape[1])
        for part in blocks(self.rows):
            size = np.abs(scaled(self.raw.actions[part], self.bounds))
            count += ((size > 0.999) & (size <= 1 + TOLERANCE)).sum(0)
        return count > 0.95 * self.rows

    @cached_property
    def goes_on(self) -> np.ndarray:
        """Whether the next state of each row is the next row's state, [N - 1] bool; only for logs with next states."""
        return goes_on(self.raw)

    @cached_property
    def signatures(self) -> np.ndarray:
        """Hash of each packed row, [N] uint64."""
        words = self.dataset.transitions.rows.numpy().view(np.uint32)
        factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64, endpoint=False) | np.uint64(1)
        total = np.zeros(len(words), np.uint64)
        for part in blocks(len(words), NEAR):
            for column, factor in enumerate(factors):
                total[part] += (words[part, column] + np.uint64(1)) * factor
        return total

    @cached_property
    def copies(self) -> np.ndarray:
        """Whether each episode has at least two steps and is equal to an earlier one, [K] bool."""
        seen, copies = set(), np.zeros(len(self.lengths), bool)
        for number, (end, length) in enumerate(zip(self.ends + 1, self.lengths, strict=True)):
            content = self.signatures[end - length : end].tobytes()
            copies[number] = length > 1 and content in seen
            seen.add(content)
        return copies

    @cached_property
    def ends(self) -> np.ndarray:
        """Index of the last row of each episode, [K] int64."""
        return self.dataset.episode_ends.numpy() - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of steps of each episode, [K] int64."""
        return self.dataset.episode_lengths().numpy()

    @cached_property
    def inside(self) -> np.ndarray:
        """Whether the row after each row belongs to the same episode, [N - 1] bool."""
        inside = np.ones(self.rows - 1, bool)
        inside[self.ends[:-1]] = False
        return inside

    def column(self, number: int) -> str:
        """Return the name of an observation column."""
        return self.dataset.names.observation(number)

    def columns(self, which: np.ndarray) -> str:
        """Return a text with the names of the observation columns that are marked in `which`, [D] bool."""
        return some([self.column(int(number)) for number in np.flatnonzero(which)])


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Return all rows, or `most` evenly spaced ones if there are more."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def alike(states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether the states in each row of two arrays [n, D] are equal, [n] bool."""
    equal = np.empty(len(states), bool)
    for part in blocks(len(states)):
        equal[part] = (states[part] == others[part]).all(1)
    return equal


Check = Callable[[Evidence], Iterator[Verdict]]


def some(items: list[str], most: int = 8) -> str:
    """Return a text with the first items and the number of the others."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def some_rows(which: np.ndarray, most: int = 3) -> str:
    """Return a text with the indices of the first rows that are marked in `which`, [N] bool."""
    return some([str(row) for row in np.flatnonzero(which)[:most]]) + (", …" if which.sum() > most else "")
